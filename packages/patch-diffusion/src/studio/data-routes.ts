/** What a run trains on: its images, and patches as its schedule cuts them now. */
import type { Hono } from 'hono';
import { UserError } from '../common/errors.js';
import { UnusableImage } from '../data/decode.js';
import type { Catalogue } from './catalogue.js';
import type { OpenData } from './open-data.js';
import { notFound, numberIn, runOf } from './requests.js';

const MAX_SEED = 2 ** 32 - 1;

export function addDataRoutes(app: Hono, catalogue: Catalogue, data: OpenData): void {
  const opened = (id: string) => {
    const json = catalogue.jsonOf(id);
    if (json === null)
      throw new UserError('BAD_RUN_JSON', `run.json of ${id} is damaged, so that its data is not known`);
    return data.of(id, json);
  };

  app.get('/api/runs/:id/data', async (c) => {
    const { id } = runOf(c, catalogue);
    const seed = Math.floor(numberIn(c, 'seed', 0, MAX_SEED) ?? 0);
    const images = await opened(id);
    return c.json(images.view(catalogue.progressOf(id), seed));
  });

  app.get('/api/runs/:id/data/:number', async (c) => {
    const { id } = runOf(c, catalogue);
    const number = Number(c.req.param('number').replace(/\.png$/, ''));
    const png = await (await opened(id)).png(number).catch((error: unknown) => {
      if (error instanceof UnusableImage)
        throw new UserError('UNUSABLE_IMAGE', `the image cannot be used: ${error.message}`);
      throw error;
    });
    if (png === null) throw notFound('there is no such image');
    return c.body(new Uint8Array(png), 200, { 'Content-Type': 'image/png', 'Cache-Control': 'no-cache' });
  });
}
