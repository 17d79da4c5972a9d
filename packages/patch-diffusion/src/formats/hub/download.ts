/**
 * Fetches a file into the user's cache: once, resumed where it broke off, checked against the checksum that the server
 * states, and in place only when whole. A cached file is used without the net when the host cannot be reached.
 */
import { open, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { UserError } from '../../common/errors.js';
import { guarded } from '../../common/file-error.js';
import { withoutSecrets } from '../../common/secrets.js';
import { sha256Of } from '../../common/sha256.js';
import { CacheEntry, cacheFolder, removePart } from './cache.js';
import type { RemoteFile } from './locator.js';
import { type Answer, get, sha256FromEtag } from './request.js';

export interface FetchOptions {
  /** Called as bytes arrive; `totalBytes` is null where the server does not say. */
  readonly onProgress?: (doneBytes: number, totalBytes: number | null) => void;
  /** Called with what the user should know, such as that a cached copy is used because the host is out of reach. */
  readonly onNote?: (message: string) => void;
  readonly signal?: AbortSignal;
  /** Default: {@link cacheFolder}. */
  readonly cacheDir?: string;
  /** Expected SHA-256 in hex; anything else is refused. */
  readonly sha256?: string;
  /** A connection that is silent for this long is given up and the transfer resumed. Default 60 s. */
  readonly stallMs?: number;
  /** A larger file is refused. Default 16 GiB, and never more than nine tenths of the free disk space. */
  readonly maxBytes?: number;
}

interface FetchedFile {
  /** The file in the cache. */
  readonly file: string;
  readonly sha256: string;
  readonly bytes: number;
  /** True when nothing was transferred. */
  readonly fromCache: boolean;
}

/** Attempts in a row that bring nothing. */
const ATTEMPTS = 5;
const STALL_MS = 60_000;
const MAX_BYTES = 16 * 2 ** 30;
/** Progress is reported at most this often. */
const REPORT_MS = 100;
/** The pause before the first repetition, doubled each time. */
const RETRY_MS = 100;

/**
 * Makes a remote file available.
 * @throws UserError when it does not exist, is not accessible, cannot be reached, or is not what its checksum says
 */
export async function fetchToCache(remote: RemoteFile, options: FetchOptions = {}): Promise<FetchedFile> {
  const entry = new CacheEntry(remote.url, options.cacheDir ?? cacheFolder());
  // One at a time for an address; the next one finds what this one fetched.
  const before = fetching.get(entry.file);
  const result = Promise.resolve(before?.catch(() => {})).then(() => fetchEntry(remote, entry, options));
  fetching.set(entry.file, result);
  try {
    return await result;
  } finally {
    if (fetching.get(entry.file) === result) fetching.delete(entry.file);
  }
}

/** What this process is fetching, by its place in the cache. */
const fetching = new Map<string, Promise<FetchedFile>>();

async function fetchEntry(
  remote: RemoteFile,
  entry: CacheEntry,
  options: FetchOptions,
): Promise<FetchedFile> {
  const cached = await entry.verified();
  const isWanted =
    cached !== null && (options.sha256 === undefined || cached.sha256 === options.sha256.toLowerCase());
  const fromCache = isWanted
    ? { file: entry.file, sha256: cached.sha256, bytes: cached.bytes, fromCache: true }
    : null;
  // A pinned checksum needs no question to the server.
  if (fromCache && options.sha256 !== undefined) return fromCache;
  try {
    return await fetchNew(remote, entry, isWanted ? cached.etag : null, options, fromCache);
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    if (!fromCache) throw error.forPeople;
    options.onNote?.(`${remote.url.host} cannot be reached; using the copy from the cache (${entry.file})`);
    return fromCache;
  }
}

/** The host could not be reached, or the transfer broke off for good. */
class Unreachable extends Error {
  constructor(readonly forPeople: UserError) {
    super(forPeople.message);
  }
}

/** A file that is being filled, and the version (etag) of the remote file that its bytes belong to. */
interface Part {
  readonly file: string;
  etag: string | null;
}

async function fetchNew(
  remote: RemoteFile,
  entry: CacheEntry,
  cachedEtag: string | null,
  options: FetchOptions,
  fromCache: FetchedFile | null,
): Promise<FetchedFile> {
  const claim = () => guarded(`write ${entry.file}`, () => entry.claimPart());
  let part: Part | null = fromCache ? null : await claim();
  let mostBytes = 0;
  for (let attempt = 1; ; attempt++) {
    try {
      const from: number = part?.etag ? await sizeOf(part.file) : 0;
      const answer = await reach(remote, conditions(part, from, cachedEtag), options);
      if (fromCache && isUnchanged(answer, fromCache, cachedEtag)) {
        await answer.response.body?.cancel();
        return fromCache;
      }
      if (answer.response.status === 416 && part) part.etag = null;
      checkStatus(answer.response, remote);
      part ??= await claim();
      const sha256 = await receive(remote, answer, part, from, options);
      const bytes = await sizeOf(part.file);
      const { file } = part;
      await guarded(`write ${entry.file}`, () =>
        entry.finish(file, { url: withoutSecrets(remote.url.href), etag: answer.etag, sha256, bytes }),
      );
      return { file: entry.file, sha256, bytes, fromCache: false };
    } catch (error) {
      const isLast = !(error instanceof Unreachable) || attempt === ATTEMPTS;
      const isStopped = options.signal?.aborted === true;
      if (part && (isLast || isStopped) && !isResumable(error, part, isStopped)) await removePart(part.file);
      if (isStopped || !(error instanceof Unreachable)) throw error;
      const bytes = part?.etag ? await sizeOf(part.file) : 0;
      if (bytes > mostBytes) {
        mostBytes = bytes;
        attempt = 0;
      }
      if (attempt === ATTEMPTS) throw error;
      // The host gave no answer at all: the caller uses the cached copy.
      if (fromCache && part === null) throw error;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS * 2 ** attempt));
    }
  }
}

/** Whether a later attempt can continue: the server names the version, and the transfer only broke off. */
function isResumable(error: unknown, part: Part, isStopped: boolean): boolean {
  return part.etag !== null && (isStopped || error instanceof Unreachable);
}

function conditions(part: Part | null, from: number, cachedEtag: string | null): Record<string, string> {
  if (part?.etag && from > 0) return { range: `bytes=${from}-`, 'if-range': part.etag };
  return cachedEtag === null ? {} : { 'if-none-match': `"${cachedEtag}"` };
}

/** Where the host gives no version, the length decides. */
function isUnchanged({ response, etag }: Answer, cached: FetchedFile, cachedEtag: string | null): boolean {
  if (response.status === 304) return true;
  if (response.status !== 200) return false;
  if (etag !== null || cachedEtag !== null) return etag === cachedEtag;
  return response.headers.get('content-length') === String(cached.bytes);
}

/** Only a strong validator (RFC 9110, section 8.8.1) promises that the rest belongs to the same file. */
function resumable(etag: string | null): string | null {
  return etag === null || etag.startsWith('W/') ? null : etag;
}

async function reach(
  remote: RemoteFile,
  headers: Record<string, string>,
  { signal, stallMs = STALL_MS }: FetchOptions,
): Promise<Answer> {
  // Limits the wait for the answer; `nextChunk` watches the body.
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(silent(stallMs)), stallMs);
  try {
    return await get(remote, headers, signal ? AbortSignal.any([signal, stall.signal]) : stall.signal);
  } catch (error) {
    throw unreachable(error, remote, signal);
  } finally {
    clearTimeout(timer);
  }
}

const silent = (ms: number) => new Error(`no data for ${ms / 1000} s`);

function unreachable(error: unknown, remote: RemoteFile, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted || error instanceof UserError || (error as Error).name === 'FileWriteError')
    return error;
  const cause = (error as Error).cause as NodeJS.ErrnoException | undefined;
  const reason = cause?.code ?? cause?.message ?? (error as Error).message;
  return new Unreachable(
    new UserError(
      'UNREACHABLE',
      `cannot fetch ${remote.text}: ${remote.url.host} cannot be reached or broke off (${reason}); check the connection and run the same command again, it goes on where it stopped`,
      { cause: error },
    ),
  );
}

function checkStatus({ status, statusText }: Response, { text, url, token }: RemoteFile): void {
  if (status === 200 || status === 206) return;
  const isHub = text.startsWith('hf:');
  if (status === 401 || status === 403) {
    const have =
      token === null ? 'set HF_TOKEN to a token that may read it' : 'the token in HF_TOKEN may not read it';
    const remedy = isHub
      ? `${have}, or accept the repository's terms on its page`
      : 'use an address that is public';
    throw new UserError('NO_ACCESS', `no access to ${text} (${status} from ${url.host}); ${remedy}`);
  }
  if (status === 404 || status === 410) {
    const remedy = isHub
      ? 'check owner, repository, path and revision (private ones also need HF_TOKEN)'
      : 'check the address';
    throw new UserError('NOT_FOUND', `${text} does not exist on ${url.host}; ${remedy}`);
  }
  const error = new UserError(
    'FETCH_FAILED',
    `cannot fetch ${text}: ${url.host} answered ${status} ${statusText}; try again later`,
  );
  throw status >= 500 || status === 429 || status === 416 ? new Unreachable(error) : error;
}

/** Writes the body behind what is there already, checks size and checksum; returns the SHA-256. */
async function receive(
  remote: RemoteFile,
  { response, etag, rawEtag }: Answer,
  part: Part,
  from: number,
  options: FetchOptions,
): Promise<string> {
  const start = response.status === 206 ? rangeStart(response) : 0;
  if (start !== 0 && start !== from)
    throw new UserError(
      'FETCH_FAILED',
      `${remote.url.host} sent another range of ${remote.text} than asked for; try again`,
    );
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  const total = Number.isSafeInteger(length) ? start + length : null;
  const limit = await sizeLimit(part.file, start, options);
  if (total !== null && total > limit) throw tooLarge(remote, total, limit);
  part.etag = resumable(rawEtag);
  await guarded(`write ${part.file}`, () =>
    writeFileAtomic(`${part.file}.json`, JSON.stringify({ etag: part.etag })),
  );
  const done = await store(remote, response, part.file, { start, total, limit }, options);
  if (total !== null && done !== total) {
    throw unreachable(new Error(`${done} of ${total} bytes`), remote, options.signal);
  }
  const sha256 = await sha256Of(part.file);
  const expected = options.sha256?.toLowerCase() ?? sha256FromEtag(etag) ?? sha256;
  if (expected !== sha256) {
    throw new UserError(
      'CHECKSUM_MISMATCH',
      `${remote.text} arrived damaged or altered: its SHA-256 is ${sha256.slice(0, 12)}… and should be ${expected.slice(0, 12)}…; the copy was deleted, fetch it again`,
    );
  }
  return sha256;
}

/** How large a file may become. @param start bytes of it that are on the disk already */
async function sizeLimit(
  part: string,
  start: number,
  { maxBytes = MAX_BYTES }: FetchOptions,
): Promise<number> {
  const disk = await statfs(dirname(part)).catch(() => null);
  return disk === null ? maxBytes : Math.min(maxBytes, start + 0.9 * disk.bavail * disk.bsize);
}

/** @param bytes as announced; null where more came than was announced, or nothing was */
function tooLarge({ text }: RemoteFile, bytes: number | null, limit: number): UserError {
  const gb = (n: number) => `${(n / 1e9).toPrecision(3)} GB`;
  const size = bytes === null ? `more than ${gb(limit)}` : gb(bytes);
  return new UserError(
    'TOO_LARGE',
    `${text} has ${size}, and a download may have ${gb(limit)} here; check the address and the free disk space, or fetch the file by other means and name it`,
  );
}

/** Appends the body from position `start`, up to `limit`; returns the file's length. */
async function store(
  remote: RemoteFile,
  response: Response,
  file: string,
  { start, total, limit }: { start: number; total: number | null; limit: number },
  options: FetchOptions,
): Promise<number> {
  const { onProgress } = options;
  const handle = await guarded(`write ${file}`, () => open(file, start === 0 ? 'w' : 'r+'));
  let done = start;
  let reportedAt = 0;
  try {
    await guarded(`write ${file}`, () => handle.truncate(start));
    const body = response.body?.getReader();
    for (;;) {
      const chunk = body ? await nextChunk(body, remote, options) : null;
      if (chunk === null) break;
      if (total !== null && done + chunk.length > total) {
        throw new UserError(
          'FETCH_FAILED',
          `${remote.url.host} sent more of ${remote.text} than it announced; try again`,
        );
      }
      if (done + chunk.length > limit) throw tooLarge(remote, null, limit);
      await guarded(`write ${file}`, () => handle.write(chunk, 0, chunk.length, done));
      done += chunk.length;
      if (performance.now() - reportedAt > REPORT_MS) {
        reportedAt = performance.now();
        onProgress?.(done, total);
      }
    }
    await guarded(`write ${file}`, () => handle.sync());
  } finally {
    await handle.close();
    await response.body?.cancel().catch(() => {});
  }
  onProgress?.(done, total);
  return done;
}

/** The next bytes, or null at the end. A silent connection counts as broken. */
async function nextChunk(
  body: ReadableStreamDefaultReader<Uint8Array>,
  remote: RemoteFile,
  { signal, stallMs = STALL_MS }: FetchOptions,
): Promise<Uint8Array | null> {
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(silent(stallMs)), stallMs);
  });
  try {
    signal?.throwIfAborted();
    const { done, value } = await Promise.race([body.read(), stalled]);
    return done ? null : value;
  } catch (error) {
    await body.cancel().catch(() => {});
    throw unreachable(error, remote, signal);
  } finally {
    clearTimeout(timer);
    if (signal?.aborted) await body.cancel().catch(() => {});
  }
}

/** First byte of a partial answer. */
function rangeStart(response: Response): number {
  return Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? 0);
}

async function sizeOf(file: string): Promise<number> {
  return (await stat(file).catch(() => null))?.size ?? 0;
}
