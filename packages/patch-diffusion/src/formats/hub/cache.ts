/** The download cache: finished files with a record of where they came from and their checksum, and unfinished ones. */
import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { homedir, hostname } from 'node:os';
import { basename, join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { isAlive } from '@patch-diffusion/torch/process-alive';
import { sha256Of } from '../../common/sha256.js';

/** What is known of a finished download; beside the file, as JSON. */
interface CacheRecord {
  /** Without secrets. */
  readonly url: string;
  /** The server's version of the file; null where it gave none. */
  readonly etag: string | null;
  readonly sha256: string;
  readonly bytes: number;
}

/** The user's cache folder: `PATCH_DIFFUSION_CACHE`, `XDG_CACHE_HOME`, or the system's usual place. */
export function cacheFolder(
  env: NodeJS.ProcessEnv = process.env,
  platform: string = process.platform,
): string {
  if (env.PATCH_DIFFUSION_CACHE) return env.PATCH_DIFFUSION_CACHE;
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'patch-diffusion');
  if (platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'patch-diffusion');
  if (platform === 'win32' && env.LOCALAPPDATA) return join(env.LOCALAPPDATA, 'patch-diffusion', 'cache');
  return join(homedir(), '.cache', 'patch-diffusion');
}

/** The files of one address in the cache. */
export class CacheEntry {
  /** The finished file. Its name ends as the address does, since it tells the training progress. */
  readonly file: string;
  readonly #folder: string;

  constructor(url: URL, folder: string) {
    this.#folder = join(folder, 'downloads');
    const key = createHash('sha256').update(unsigned(url).href).digest('hex').slice(0, 16);
    const name =
      basename(decoded(url.pathname))
        .replace(/[^\w.-]+/g, '_')
        .slice(-100) || 'file';
    this.file = join(this.#folder, `${key}_${name}`);
  }

  get #recordFile(): string {
    return `${this.file}.json`;
  }

  /** The record of a finished file that is still what it was; null otherwise. */
  async verified(): Promise<CacheRecord | null> {
    const record = await readJson<CacheRecord>(this.#recordFile);
    const info = await stat(this.file).catch(() => null);
    if (record === null || info?.size !== record.bytes) return null;
    return (await sha256Of(this.file)) === record.sha256 ? record : null;
  }

  /** Turns a finished part into the cached file. The record is written last: a file without one is not used. */
  async finish(part: string, record: CacheRecord): Promise<void> {
    await rm(this.#recordFile, { force: true });
    await rename(part, this.file);
    await writeFileAtomic(this.#recordFile, `${JSON.stringify(record, null, 2)}\n`);
    await rm(`${part}.json`, { force: true });
  }

  /**
   * A file to download into, belonging to this process alone: the part that an earlier, dead process left, or a new
   * name. Two processes that fetch the same address do not disturb each other.
   */
  async claimPart(): Promise<{ file: string; etag: string | null }> {
    await mkdir(this.#folder, { recursive: true });
    const mine = `${this.file}.part-${HOST}-${process.pid}`;
    const names = await readdir(this.#folder);
    for (const name of names) {
      const [, stem, owner] = PART.exec(name) ?? [];
      if (stem === undefined) continue;
      const left = join(this.#folder, name);
      if (left !== mine && (await isInUse(left, owner))) continue;
      if (stem !== basename(this.file)) {
        await removeStale(left);
        continue;
      }
      try {
        if (left !== mine) await rename(left, mine);
        const record = await readJson<{ etag: string | null }>(`${left}.json`);
        if (left !== mine) await rm(`${left}.json`, { force: true });
        return { file: mine, etag: record?.etag ?? null };
      } catch {
        // Another process was quicker.
      }
    }
    return { file: mine, etag: null };
  }
}

/** Removes a part and what is known of it. */
export async function removePart(part: string): Promise<void> {
  for (const file of [part, `${part}.json`]) await rm(file, { force: true });
}

/** A part of another address whose process is gone: without a version it cannot be continued, and old ones never are. */
async function removeStale(part: string): Promise<void> {
  const record = await readJson<{ etag: string | null }>(`${part}.json`);
  const info = await stat(part).catch(() => null);
  const isOld = info !== null && Date.now() - info.mtimeMs > STALE_MS;
  if (isOld || !record?.etag) await removePart(part);
}

/** Parameters that sign an address. Another signature is the same file. */
const SIGNATURE =
  /^(x-(amz|goog)-.*|signature|sig|access_?token|token|expires|policy|key-pair-id|se|sp|sv|sr)$/i;
/^x-(amz|goog|ms)-|sign|token|secret|credential|passw|auth|^(key|sig|expires|policy|se|sp|sv|sr)$/i;

/** An address without what signs it. */
function unsigned(url: URL): URL {
  const plain = new URL(url);
  for (const name of [...plain.searchParams.keys()])
    if (SIGNATURE.test(name)) plain.searchParams.delete(name);
  return plain;
}

/** `name.part-host-pid` */
const PART = /^(.*)\.part-(.*-\d+)$/;
const STALE_MS = 7 * 24 * 3_600_000;
/** This machine's name, for file names. */
const HOST = hostname().replace(/[^\w.]+/g, '_');
/** A part of another machine that has not grown for this long is taken over. */
const ABANDONED_MS = 10 * 60_000;

/** @param owner `host-pid` */
async function isInUse(part: string, owner: string): Promise<boolean> {
  const [, host, pid] = /^(.*)-(\d+)$/.exec(owner) ?? [];
  if (host === HOST) return isAlive(Number(pid));
  // Machines that share the cache cannot see each other's processes, only how their files grow.
  const info = await stat(part).catch(() => null);
  return info !== null && Date.now() - info.mtimeMs < ABANDONED_MS;
}

function decoded(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path; // a bare %
  }
}

async function readJson<T>(file: string): Promise<T | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as T;
  } catch {
    return null;
  }
}
