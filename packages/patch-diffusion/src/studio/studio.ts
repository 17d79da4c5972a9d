/** The studio: a local server that shows runs in a browser. It reads run folders and needs no libtorch. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { UserError } from '../common/errors.js';
import { version } from '../common/version.js';
import { createApp } from './app.js';
import { Catalogue } from './catalogue.js';
import { Drawings } from './drawings.js';
import { isLoopback } from './guard.js';
import { OpenData } from './open-data.js';
import { readPageFiles } from './page-files.js';
import { PageModels } from './page-models.js';
import { runtimeFiles } from './page-runtime.js';
import { Trainings } from './trainings.js';
import { Watcher } from './watcher.js';

/** How many ports are tried from the one that is asked for. */
const PORTS = 50;

export interface StudioOptions {
  /** A folder of runs, or one run. */
  readonly folder: string;
  /** Address to listen on. */
  readonly host: string;
  /** The next free one is used where it is taken; 0: any free one. */
  readonly port: number;
  /** Whether pages may draw sheets, which takes this machine's processor. */
  readonly allowGenerate?: boolean;
  /** Whether pages may start, stop and resume trainings. */
  readonly allowTrain?: boolean;
}

export interface Studio {
  /** Link to open, with the token where there is one. */
  readonly url: string;
  readonly port: number;
  close(): Promise<void>;
}

/**
 * Starts the server.
 * @throws {UserError} when the address cannot be listened on, or the pages are not built
 */
export async function startStudio(options: StudioOptions): Promise<Studio> {
  const { folder, host, port: wanted, allowGenerate = false, allowTrain = false } = options;
  const pages = await readPageFiles();
  // Other users of this machine may read runs that they can reach, but start nothing.
  const isOpen = isLoopback(host) && !allowGenerate && !allowTrain;
  const token = isOpen ? null : randomBytes(24).toString('base64url');
  const drawings = allowGenerate ? new Drawings() : null;
  const models = allowGenerate ? new PageModels() : null;
  const runtime = runtimeFiles();
  const trainings = allowTrain ? new Trainings(folder) : null;
  const catalogue = new Catalogue(folder);
  const watcher = new Watcher(catalogue);
  const data = new OpenData();
  await watcher.now();
  let fetch: (request: Request) => Response | Promise<Response> = () => new Response(null, { status: 503 });
  const server = createAdaptorServer({
    fetch: (request: Request) => fetch(request),
    overrideGlobalObjects: false,
  }) as Server;
  // The port is a part of the names that the server answers to.
  const port = await listen(server, host, wanted);
  const app = createApp({
    info: { folder, version, allowGenerate, allowTrain, drawsInPage: runtime.size > 0 },
    guard: { host, port, token },
    ...{ pages, catalogue, watcher, data, drawings, models, runtime, trainings },
  });
  fetch = (request) => app.fetch(request);
  const name = host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${name}:${port}/${token === null ? '' : `?token=${token}`}`,
    port,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      // Event streams would stay open for ever.
      server.closeAllConnections();
      await Promise.all([closed, drawings?.close(), models?.close(), data.close()]);
    },
  };
}

/** Listens on the port, or on the next one that is free. @returns the port */
async function listen(server: Server, host: string, wanted: number): Promise<number> {
  const last = Math.min(65_535, wanted + PORTS - 1);
  for (let port = wanted; port <= last; port++) {
    const error = await tryPort(server, host, port);
    if (error === null) return (server.address() as { port: number }).port;
    const { code = '' } = error;
    if (code === 'EADDRINUSE' && wanted !== 0) continue;
    const reasons: Record<string, string> = {
      EACCES: 'only an administrator may use it; use --port 1024 or higher',
      EADDRNOTAVAIL:
        'this machine has no such address; use --host 127.0.0.1, or 0.0.0.0 for all of its addresses',
      ENOTFOUND: 'there is no such name; use --host 127.0.0.1, or 0.0.0.0 for all addresses of this machine',
    };
    const reason = reasons[code] ?? error.message;
    throw new UserError('CANNOT_LISTEN', `cannot listen on ${host}, port ${port}: ${reason}`);
  }
  throw new UserError('PORT_IN_USE', `ports ${wanted} to ${last} are in use; choose another one with --port`);
}

/** @returns what went wrong, or null */
function tryPort(server: Server, host: string, port: number): Promise<NodeJS.ErrnoException | null> {
  return new Promise((resolve) => {
    const onError = (error: NodeJS.ErrnoException) => {
      server.off('listening', onListening);
      resolve(error);
    };
    const onListening = () => {
      server.off('error', onError);
      resolve(null);
    };
    server.once('error', onError);
    server.once('listening', onListening);
    server.listen(port, host);
  });
}
