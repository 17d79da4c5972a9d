/** Starting, stopping and resuming trainings, where `--allow-train` allows it. */
import type { Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { z } from 'zod';
import type { Catalogue } from './catalogue.js';
import { bodyOf, runOf } from './requests.js';
import { type Trainings, trainForm } from './trainings.js';

const requestSchema = z.record(z.string(), z.string().max(4000));

export function addTrainingRoutes(app: Hono, catalogue: Catalogue, trainings: Trainings | null): void {
  const allowed = (): Trainings => {
    if (trainings !== null) return trainings;
    throw new HTTPException(403, { message: 'training is not allowed; start the studio with --allow-train' });
  };

  app.get('/api/train-form', (c) => c.json(trainForm()));

  app.post('/api/trainings', async (c) => {
    await allowed().start(await bodyOf(c, requestSchema));
    return c.body(null, 204);
  });

  app.post('/api/runs/:id/stop', async (c) => {
    const { id, dir } = runOf(c, catalogue);
    await allowed().stop(id, dir);
    return c.body(null, 204);
  });

  app.post('/api/runs/:id/resume', async (c) => {
    const { id, dir } = runOf(c, catalogue);
    await allowed().resume(id, dir);
    return c.body(null, 204);
  });
}
