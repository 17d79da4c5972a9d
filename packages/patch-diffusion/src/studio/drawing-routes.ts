/** Drawing sheets from snapshots, where `--allow-generate` allows it. */
import { readFile } from 'node:fs/promises';
import type { Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { z } from 'zod';
import { SAMPLERS } from '../diffusion/samplers/index.js';
import { readSnapshotInfo } from '../run/snapshot-info.js';
import type { SnapshotDetail } from './api.js';
import type { Catalogue } from './catalogue.js';
import type { Drawings } from './drawings.js';
import { bodyOf, folderOf, notFound, runOf, snapshotIn } from './requests.js';

const requestSchema = z.strictObject({
  run: z.string(),
  snapshot: z.string(),
  options: z.record(z.string(), z.string().max(1000)),
});

export function addDrawingRoutes(app: Hono, catalogue: Catalogue, drawings: Drawings | null): void {
  const allowed = (): Drawings => {
    if (drawings !== null) return drawings;
    throw new HTTPException(403, {
      message: 'drawing is not allowed; start the studio with --allow-generate',
    });
  };

  app.get('/api/runs/:id/snapshots/:name', async (c) => {
    const file = await snapshotIn(runOf(c, catalogue).dir, c.req.param('name'));
    return c.json(await snapshotDetail(file));
  });

  app.post('/api/drawings', async (c) => {
    const all = allowed();
    const request = await bodyOf(c, requestSchema);
    const file = await snapshotIn(folderOf(request.run, catalogue), request.snapshot);
    return c.json(all.start(request, file), 201);
  });

  app.delete('/api/drawings/:number', (c) => {
    if (!allowed().cancel(Number(c.req.param('number')))) throw notFound('no such sheet is being drawn');
    return c.body(null, 204);
  });

  app.get('/api/drawings/:number/sheet.png', async (c) => {
    const file = allowed().sheetOf(Number(c.req.param('number')));
    if (file === null) throw notFound('there is no such sheet');
    const headers = { 'Content-Type': 'image/png', 'Cache-Control': 'no-store' };
    return c.body(new Uint8Array(await readFile(file)), 200, headers);
  });
}

async function snapshotDetail(file: string): Promise<SnapshotDetail> {
  const { precond, dataset } = await readSnapshotInfo(file);
  const { labelDim = 0 } = precond.network;
  // Label vectors have no names.
  const hasClasses = labelDim > 0 && !Array.isArray(dataset.labels?.[0]);
  const names = Array.from({ length: labelDim }, (_, i) => dataset.classNames?.[i] ?? String(i));
  return { classes: hasClasses ? names : null, samplers: SAMPLERS };
}
