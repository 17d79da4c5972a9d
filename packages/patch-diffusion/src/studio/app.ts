/** The addresses of the studio: its pages, and below /api what they show. */
import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Context, Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { streamSSE } from 'hono/streaming';
import { UserError } from '../common/errors.js';
import { fileError } from '../common/file-error.js';
import { listNearest, listSheets } from '../run/runs.js';
import type { RunSeries, StudioInfo, XAxis } from './api.js';
import type { Catalogue } from './catalogue.js';
import { addDataRoutes } from './data-routes.js';
import { readDetail } from './detail.js';
import { addDrawingRoutes } from './drawing-routes.js';
import type { Drawings } from './drawings.js';
import { readEvaluations } from './evaluations.js';
import { type GuardOptions, guard } from './guard.js';
import type { OpenData } from './open-data.js';
import { addPageDrawingRoutes } from './page-drawing-routes.js';
import type { PageFile } from './page-files.js';
import type { PageModels } from './page-models.js';
import { notFound, numberIn, runOf } from './requests.js';
import { type Range, readSeries } from './series.js';
import { addTrainingRoutes } from './training-routes.js';
import type { Trainings } from './trainings.js';
import type { Watcher } from './watcher.js';

const DEFAULT_LINES = 1000;
const MAX_LINES = 5000;
/** Keeps a connection open that has nothing to say, and finds out that it is closed. */
const PING_MS = 20_000;

export interface StudioParts {
  readonly info: StudioInfo;
  readonly guard: GuardOptions;
  readonly pages: ReadonlyMap<string, PageFile>;
  readonly catalogue: Catalogue;
  readonly watcher: Watcher;
  readonly data: OpenData;
  /** Null: not allowed. */
  readonly drawings: Drawings | null;
  /** The same. */
  readonly models: PageModels | null;
  /** What draws in pages: files by their addresses. */
  readonly runtime: ReadonlyMap<string, string>;
  /** The same. */
  readonly trainings: Trainings | null;
}

export function createApp({
  info,
  guard: guardOptions,
  pages,
  catalogue,
  watcher,
  data,
  drawings,
  models,
  runtime,
  trainings,
}: StudioParts): Hono {
  const app = new Hono();
  app.use(guard(guardOptions));

  app.get('/api/info', (c) => c.json(info));

  app.get('/api/events', (c) =>
    streamSSE(c, async (stream) => {
      const send = (event: string, data: unknown) => stream.writeSSE({ event, data: JSON.stringify(data) });
      const stops = [
        watcher.listen((event) => void send('changes', event)),
        drawings?.listen((all) => void send('drawings', all)),
        trainings?.listen((all) => void send('trainings', all)),
      ];
      const stop = () => {
        for (const one of stops) one?.();
      };
      stream.onAbort(stop);
      await send('all', await watcher.now());
      if (drawings) await send('drawings', drawings.all);
      if (trainings) await send('trainings', trainings.all);
      while (!stream.aborted) {
        await stream.sleep(PING_MS);
        await stream.writeSSE({ event: 'ping', data: '' });
      }
      stop();
    }),
  );

  app.get('/api/runs/:id', async (c) => {
    const { id, dir } = runOf(c, catalogue);
    return c.json(await readDetail(id, dir, catalogue.jsonOf(id)));
  });

  app.get('/api/runs/:id/series', async (c) => {
    const { dir } = runOf(c, catalogue);
    const lines = numberIn(c, 'lines', 10, MAX_LINES) ?? DEFAULT_LINES;
    const [series, evaluated] = await Promise.all([
      readSeries(dir, Math.round(lines), rangeOf(c)),
      readEvaluations(dir),
    ]);
    return c.json({ ...series, ...evaluated } satisfies RunSeries);
  });

  app.get('/api/runs/:id/:folder{samples|nearest}/:name', async (c) => {
    const { dir } = runOf(c, catalogue);
    const { folder, name } = c.req.param();
    const list = folder === 'samples' ? listSheets : listNearest;
    // Looked up among the run's own files: a name never becomes a path.
    const file = (await list(dir)).find((one) => basename(one) === name);
    if (file === undefined) throw notFound(`there is no sheet ${name}`);
    const { mtimeMs, size } = await stat(file);
    const tag = `"${mtimeMs.toString(36)}-${size.toString(36)}"`;
    const headers = { ETag: tag, 'Cache-Control': 'no-cache', 'Content-Type': 'image/png' };
    if (c.req.header('if-none-match') === tag) return c.body(null, 304, headers);
    return c.body(new Uint8Array(await readFile(file)), 200, headers);
  });

  addDataRoutes(app, catalogue, data);
  addDrawingRoutes(app, catalogue, drawings);
  addPageDrawingRoutes(app, catalogue, models, runtime);
  addTrainingRoutes(app, catalogue, trainings);

  app.get('*', (c) => {
    const { path } = c.req;
    const page = pages.get(path === '/' ? '/index.html' : path);
    if (page === undefined) throw notFound('there is no such page');
    const caching = page.isFixed ? 'public, max-age=31536000, immutable' : 'no-cache';
    return c.body(page.bytes, 200, { 'Content-Type': page.type, 'Cache-Control': caching });
  });

  app.onError((caught, c) => {
    const error = fileError(caught, 'read a file of the run') as Error;
    if (error instanceof HTTPException) return c.json({ error: error.message }, error.status);
    const isExpected = error instanceof UserError;
    return c.json(
      { error: isExpected ? error.message : `internal: ${error.message}` },
      isExpected ? 422 : 500,
    );
  });
  return app;
}

function rangeOf(c: Context): Range | undefined {
  const [from, to] = ['from', 'to'].map((name) => numberIn(c, name, -Number.MAX_VALUE, Number.MAX_VALUE));
  if (from === undefined && to === undefined) return undefined;
  const x = c.req.query('x') ?? 'kimg';
  if (!isAxis(x)) throw new HTTPException(400, { message: `x=${x} must be kimg, step, time or clock` });
  return { x, from: from ?? -Number.MAX_VALUE, to: to ?? Number.MAX_VALUE };
}

const isAxis = (x: string): x is XAxis => ['kimg', 'step', 'time', 'clock'].includes(x);
