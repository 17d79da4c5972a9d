/** Drawing in the page: models made of snapshots, where `--allow-generate` allows it, and what computes them. */
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { extname } from 'node:path';
import { Readable } from 'node:stream';
import type { Context, Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { z } from 'zod';
import { guarded } from '../common/file-error.js';
import type { Catalogue } from './catalogue.js';
import type { PageModels } from './page-models.js';
import { bodyOf, folderOf, notFound, snapshotIn } from './requests.js';

const requestSchema = z.strictObject({ run: z.string(), snapshot: z.string() });

const TYPES: Readonly<Record<string, string>> = {
  ...{ '.js': 'text/javascript', '.mjs': 'text/javascript' },
  ...{ '.wasm': 'application/wasm', '.onnx': 'application/octet-stream' },
};

export function addPageDrawingRoutes(
  app: Hono,
  catalogue: Catalogue,
  models: PageModels | null,
  runtime: ReadonlyMap<string, string>,
): void {
  const allowed = (): PageModels => {
    if (models !== null) return models;
    throw new HTTPException(403, {
      message: 'drawing is not allowed; start the studio with --allow-generate',
    });
  };

  app.post('/api/models', async (c) => {
    const all = allowed();
    const { run, snapshot } = await bodyOf(c, requestSchema);
    return c.json(await all.of(await snapshotIn(folderOf(run, catalogue), snapshot)));
  });

  app.get('/api/models/:key/:name', async (c) => {
    const { key, name } = c.req.param();
    const file = await allowed().fileOf(key, name);
    if (file === null) throw notFound('there is no such model');
    return send(c, file);
  });

  app.get('/npm/*', async (c) => {
    const file = runtime.get(c.req.path);
    if (file === undefined) throw notFound('there is no such file');
    return send(c, file);
  });
}

/** A large file, piece by piece. */
async function send(c: Context, file: string): Promise<Response> {
  const { size } = await guarded(`read ${file}`, () => stat(file));
  const body = Readable.toWeb(createReadStream(file)) as ReadableStream<Uint8Array>;
  return c.body(body, 200, {
    'Content-Type': TYPES[extname(file)],
    'Content-Length': String(size),
    'Cache-Control': 'no-cache',
  });
}
