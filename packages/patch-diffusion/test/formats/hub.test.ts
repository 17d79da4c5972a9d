/** Downloads from a server on this machine: the Hub's redirects and checksums, broken transfers, the cache. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { withoutSecrets } from '../../src/common/secrets.js';
import { cacheFolder } from '../../src/formats/hub/cache.js';
import { type FetchOptions, fetchToCache } from '../../src/formats/hub/download.js';
import { isRemote, parseLocator } from '../../src/formats/hub/locator.js';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const body = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251));
const sha256 = createHash('sha256').update(body).digest('hex');
/** As in the names of parts. */
const host = hostname().replace(/[^\w.]+/g, '_');
let handler: Handler;
let requests: IncomingMessage[] = [];
let hub: Server;
let cdn: Server;
let cacheDir: string;
const scratch = mkdtempSync(join(tmpdir(), 'patch-diffusion-hub-'));

const listen = (server: Server): Promise<Server> =>
  new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
const origin = (server: Server): string => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

beforeAll(async () => {
  const serve: Handler = (request, response) => {
    requests.push(request);
    handler(request, response);
  };
  hub = await listen(createServer(serve));
  cdn = await listen(createServer(serve));
});
beforeEach(() => {
  requests = [];
  cacheDir = mkdtempSync(join(scratch, 'cache-'));
});
afterEach(() => hub.closeAllConnections());
afterAll(() => {
  hub.close();
  cdn.close();
  hub.closeAllConnections();
  cdn.closeAllConnections();
  rmSync(scratch, { recursive: true, force: true });
});

/** Serves `content` with ranges and validators, `limit` bytes per connection. */
const serveFile =
  (
    content: Buffer,
    { etag = `"${sha256}"`, limit = Infinity }: { etag?: string | null; limit?: number } = {},
  ): Handler =>
  (request, response) => {
    if (etag !== null) response.setHeader('etag', etag);
    if (etag !== null && request.headers['if-none-match'] === etag) return void response.writeHead(304).end();
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const valid = range && request.headers['if-range'] === etag;
    const start = valid ? Number(range[1]) : 0;
    if (start >= content.length) return void response.writeHead(416).end();
    const part = content.subarray(start);
    response.setHeader('content-length', part.length);
    if (valid) response.setHeader('content-range', `bytes ${start}-${content.length - 1}/${content.length}`);
    response.writeHead(valid ? 206 : 200);
    if (part.length <= limit) response.end(part);
    else response.write(part.subarray(0, limit), () => setTimeout(() => response.destroy(), 20));
  };

const url = (path = '/w/network-snapshot-000050.pkl') => parseLocator(origin(hub) + path, {});
const fetched = (options: FetchOptions = {}, remote = url()) =>
  fetchToCache(remote, { cacheDir, ...options });
const inCache = () => readdirSync(join(cacheDir, 'downloads')).sort();

describe('addresses', () => {
  it('are told from paths', () => {
    expect(['https://x/y', 'HTTP://x', 'hf:a/b/c'].every(isRemote)).toBe(true);
    expect(['runs/x', 'C:\\x', './hf', 'file.pkl', '/http://x'].some(isRemote)).toBe(false);
  });

  it('of the Hub', () => {
    const env = { HF_ENDPOINT: 'http://localhost:1/', HF_TOKEN: 't' };
    const at = (text: string) => parseLocator(text, env).url.href;
    expect(at('hf:own/repo/a.pkl')).toBe('http://localhost:1/own/repo/resolve/main/a.pkl');
    expect(at('hf:own/repo/dir/a b.pkl@refs/pr/1')).toBe(
      'http://localhost:1/own/repo/resolve/refs%2Fpr%2F1/dir/a%20b.pkl',
    );
    expect(at('hf://own/repo/a.pkl@v1')).toBe('http://localhost:1/own/repo/resolve/v1/a.pkl');
    expect(parseLocator('hf:own/repo/a.pkl', env).token).toBe('t');
    expect(parseLocator('https://x/y', env).token).toBeNull();
    expect(parseLocator('hf:own/repo/a.pkl', {}).url.protocol).toBe('https:');
  });

  it.each(['hf:own/repo', 'hf:own//a', 'hf:own/../a', 'hf:', 'http://', 'https://user:secret@host/x'])(
    '%s is refused',
    (text) => {
      expect(() => parseLocator(text, {})).toThrow(/is not a usable address/);
    },
  );

  it.each([
    ['https://h/x/net.pkl?X-Amz-Signature=S3CR3T&v=1#S3CR3T', 'https://h/x/net.pkl'],
    ['https://me:S3CR3T@h:8443/net.pkl', 'https://h:8443/net.pkl'],
    ['HTTPS://S3CR3T@h/net.pkl', 'https://h/net.pkl'],
    ['https://me:S3CR3T@h:port/x?y', 'https://h:port/x'],
    ['hf:own/repo/net.pkl@main', 'hf:own/repo/net.pkl@main'],
    ['runs/what?.pkl', 'runs/what?.pkl'],
  ])('%s without secrets', (address, shown) => {
    expect(withoutSecrets(address)).toBe(shown);
  });

  it('that are refused are shown without secrets', () => {
    for (const text of ['https://me:S3CR3T@h/x', 'https://h:port/x?sig=S3CR3T']) {
      expect(() => parseLocator(text, {})).toThrow(/^https:\/\/h(:port)?\/x is not a usable address/);
    }
    const env = { HF_ENDPOINT: 'https://me:S3CR3T@h' };
    expect(() => parseLocator('hf:own/repo/a.pkl', env)).toThrow(/^https:\/\/h\/ is not a usable address/);
  });

  it('with a token: line breaks around it do not count, others are told without the token', () => {
    expect(parseLocator('hf:own/repo/a.pkl', { HF_TOKEN: ' hf_S3CR3T\r\n' }).token).toBe('hf_S3CR3T');
    expect(parseLocator('hf:own/repo/a.pkl', { HF_TOKEN: '\n' }).token).toBeNull();
    for (const HF_TOKEN of ['hf_S3CR3T\nhf_S3CR3T', 'hf_S3CR3T\u0000', 'hf_S3CR3Tß']) {
      const read = () => parseLocator('hf:own/repo/a.pkl', { HF_TOKEN });
      expect(read).toThrow(/^HF_TOKEN is not a token: [^\n]*set it again/);
      expect(read).not.toThrow(/S3CR3T/);
    }
  });

  it('the cache folder follows the environment', () => {
    expect(cacheFolder({ PATCH_DIFFUSION_CACHE: '/c' })).toBe('/c');
    expect(cacheFolder({ XDG_CACHE_HOME: '/x' })).toBe(join('/x', 'patch-diffusion'));
    expect(cacheFolder({}, 'darwin')).toMatch(/Library/);
    expect(cacheFolder({ LOCALAPPDATA: 'L' }, 'win32')).toMatch(/^L/);
  });
});

describe('downloads', () => {
  it('are kept, recorded and asked for again only by their version', async () => {
    handler = serveFile(body);
    const progress: [number, number | null][] = [];
    const first = await fetched({ onProgress: (...p) => progress.push(p) });
    expect(first).toMatchObject({ sha256, bytes: body.length, fromCache: false });
    expect(readFileSync(first.file).equals(body)).toBe(true);
    expect(first.file).toMatch(/_network-snapshot-000050\.pkl$/);
    expect(progress.at(-1)).toEqual([body.length, body.length]);
    expect(JSON.parse(readFileSync(`${first.file}.json`, 'utf8'))).toMatchObject({
      sha256,
      etag: sha256,
      bytes: body.length,
    });
    expect(inCache()).toHaveLength(2);

    expect((await fetched()).fromCache).toBe(true);
    expect(requests[1]!.headers['if-none-match']).toBe(`"${sha256}"`);
    expect(requests).toHaveLength(2);
    // A pinned checksum that the cache has needs no server.
    expect((await fetched({ sha256 })).fromCache).toBe(true);
    expect(requests).toHaveLength(2);
  });

  it('follow a new version', async () => {
    handler = serveFile(body);
    await fetched();
    handler = serveFile(body.subarray(5), { etag: '"v2"' });
    const second = await fetched();
    expect([second.fromCache, second.bytes]).toEqual([false, body.length - 5]);
    expect(inCache()).toHaveLength(2);
  });

  it('from a server without versions are kept while the length is the same', async () => {
    handler = serveFile(body, { etag: null });
    await fetched();
    expect((await fetched()).fromCache).toBe(true);
    handler = serveFile(body.subarray(1), { etag: null });
    expect((await fetched()).bytes).toBe(body.length - 1);
  });

  it('that break off go on where they stopped', async () => {
    handler = serveFile(body, { limit: 120_000 });
    const result = await fetched();
    expect(readFileSync(result.file).equals(body)).toBe(true);
    const ranges = requests.map((r) => r.headers.range);
    expect(ranges[0]).toBeUndefined();
    expect(ranges.slice(1).every((r) => /^bytes=[1-9]\d*-$/.test(r ?? ''))).toBe(true);
    expect(requests[1]!.headers['if-range']).toBe(`"${sha256}"`);
  });

  it('start over when the file changed meanwhile', async () => {
    const changed = Buffer.from(body).reverse();
    handler = (request, response) => {
      serveFile(body, { limit: 100_000, etag: '"v1"' })(request, response);
      handler = serveFile(changed, { etag: '"v2"' });
    };
    expect(readFileSync((await fetched()).file).equals(changed)).toBe(true);
  });

  it('take over what a dead process left', async () => {
    handler = serveFile(body);
    await fetched();
    const name = inCache().find((n) => !n.endsWith('.json'))!;
    const folder = join(cacheDir, 'downloads');
    rmSync(folder, { recursive: true });
    mkdirSync(folder);
    // No process has this id: it is above every system's limit.
    writeFileSync(join(folder, `${name}.part-${host}-999999999`), body.subarray(0, 200_000));
    writeFileSync(
      join(folder, `${name}.part-${host}-999999999.json`),
      JSON.stringify({ etag: `"${sha256}"` }),
    );
    const result = await fetched();
    expect(requests.at(-1)!.headers.range).toBe('bytes=200000-');
    expect(readFileSync(result.file).equals(body)).toBe(true);
    expect(inCache()).toHaveLength(2);
  });

  it('a complete part that was never finished is fetched again', async () => {
    handler = serveFile(body);
    await fetched();
    const folder = join(cacheDir, 'downloads');
    const name = inCache().find((n) => !n.endsWith('.json'))!;
    rmSync(join(folder, `${name}.json`));
    writeFileSync(join(folder, `${name}.part-${host}-999999999`), body);
    writeFileSync(
      join(folder, `${name}.part-${host}-999999999.json`),
      JSON.stringify({ etag: `"${sha256}"` }),
    );
    expect((await fetched()).sha256).toBe(sha256);
  });

  it('damaged on the way are refused and deleted', async () => {
    handler = serveFile(Buffer.from(body).fill(0, 1000, 1001));
    await expect(fetched()).rejects.toThrow(/arrived damaged or altered: its SHA-256 is .*fetch it again/);
    expect(inCache()).toEqual([]);
    handler = serveFile(body, { etag: '"abc"' });
    await expect(fetched({ sha256: '0'.repeat(64) })).rejects.toThrow(/should be 000000000000/);
  });

  it('damaged in the cache are fetched again', async () => {
    handler = serveFile(body);
    const { file } = await fetched();
    writeFileSync(file, Buffer.from(body).fill(1, 5, 6));
    expect((await fetched()).fromCache).toBe(false);
    expect(readFileSync(file).equals(body)).toBe(true);
  });

  it('two at once do not disturb each other', async () => {
    handler = serveFile(body);
    const results = await Promise.all([fetched(), fetched({}, url('/w/other.pkl'))]);
    for (const { file } of results) expect(readFileSync(file).equals(body)).toBe(true);
  });

  it('two at once of the same address transfer it once', async () => {
    handler = serveFile(body);
    const results = await Promise.all([fetched(), fetched()]);
    for (const { file } of results) expect(readFileSync(file).equals(body)).toBe(true);
    expect(results.map(({ fromCache }) => fromCache)).toEqual([false, true]);
    expect(inCache()).toHaveLength(2);
  });

  it('leave alone what a process of another machine is fetching', async () => {
    handler = serveFile(body);
    await fetched();
    const folder = join(cacheDir, 'downloads');
    const name = inCache().find((n) => !n.endsWith('.json'))!;
    rmSync(join(folder, `${name}.json`));
    const part = join(folder, `${name}.part-elsewhere-1`);
    writeFileSync(part, body.subarray(0, 1000));
    writeFileSync(`${part}.json`, JSON.stringify({ etag: `"${sha256}"` }));
    await fetched();
    expect(requests.at(-1)!.headers.range).toBeUndefined();
    expect(existsSync(part)).toBe(true);
    // Long silent: it was left behind.
    rmSync(join(folder, `${name}.json`));
    utimesSync(part, new Date(0), new Date(0));
    await fetched();
    expect(requests.at(-1)!.headers.range).toBe('bytes=1000-');
    expect(inCache()).toHaveLength(2);
  });

  it('may take longer than a connection may be silent', async () => {
    handler = (_, response) => {
      response.writeHead(200, { 'content-length': body.length });
      let at = 0;
      const timer = setInterval(() => {
        response.write(body.subarray(at, at + 30_000));
        at += 30_000;
        if (at < body.length) return;
        clearInterval(timer);
        response.end();
      }, 40);
    };
    const result = await fetched({ stallMs: 250 });
    expect(result.sha256).toBe(sha256);
    expect(requests).toHaveLength(1);
  });

  it('that fall silent go on in a new connection, as long as something arrives', async () => {
    const etag = `"${sha256}"`;
    handler = (request, response) => {
      const start = Number(/\d+/.exec(request.headers.range ?? '')?.[0] ?? 0);
      response.writeHead(start ? 206 : 200, {
        etag,
        'content-length': body.length - start,
        'content-range': `bytes ${start}-${body.length - 1}/${body.length}`,
      });
      response.write(body.subarray(start, start + 40_000)); // and nothing more
    };
    const result = await fetched({ stallMs: 60 });
    expect(result.sha256).toBe(sha256);
    expect(requests.length).toBe(8); // more than the attempts that may fail in a row
    rmSync(cacheDir, { recursive: true });
    handler = () => {}; // no answer at all
    await expect(fetched({ stallMs: 20 })).rejects.toThrow(/no data for 0\.02 s/);
  });

  it('may have any name', async () => {
    handler = serveFile(body);
    expect((await fetched({}, url('/w/100%.pkl'))).file).toMatch(/_100_\.pkl$/);
  });

  it('without a connection use the cache and say so', async () => {
    handler = serveFile(body);
    const gone = await listen(createServer((q, r) => handler(q, r)));
    const remote = parseLocator(`${origin(gone)}/w/x.pkl`, {});
    await fetched({}, remote);
    gone.closeAllConnections();
    await new Promise((resolve) => gone.close(resolve));
    const notes: string[] = [];
    const result = await fetched({ onNote: (text) => notes.push(text) }, remote);
    expect(result.fromCache).toBe(true);
    expect(notes).toEqual([expect.stringMatching(/cannot be reached; using the copy from the cache/)]);

    rmSync(cacheDir, { recursive: true });
    await expect(fetched({}, remote)).rejects.toThrow(
      /cannot be reached or broke off \(ECONNREFUSED\); check the connection/,
    );
  });

  it('can be stopped', async () => {
    handler = (_, response) => void response.writeHead(200, { 'content-length': 10 }).write('abc');
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 100);
    await expect(fetched({ signal: controller.signal })).rejects.toThrow(/abort/i);
  });

  it('refuse more than was announced, and redirects to other schemes', async () => {
    handler = (_, response) => {
      response.socket!.end(`HTTP/1.1 302 Found\r\nlocation: file:///etc/passwd\r\ncontent-length: 0\r\n\r\n`);
    };
    await expect(fetched()).rejects.toThrow(/redirected to file:/);
  }, 30_000);
});

describe('signed addresses', () => {
  const signed = (signature: string) => url(`/w/net.pkl?X-Amz-Signature=${signature}&version=1`);

  it('leave no secret in the cache, and a new signature finds the same file', async () => {
    handler = serveFile(body);
    const { file } = await fetched({}, signed('S3CR3T'));
    expect(requests[0].url).toContain('X-Amz-Signature=S3CR3T');
    for (const name of inCache()) {
      expect(name).not.toContain('S3CR3T');
      expect(readFileSync(join(cacheDir, 'downloads', name)).includes('S3CR3T')).toBe(false);
    }
    expect(await fetched({}, signed('other'))).toMatchObject({ file, fromCache: true });
    expect((await fetched({}, url('/w/net.pkl?version=2'))).file).not.toBe(file);
  });

  it.each([404, 403, 418, 200])('are not printed whole when the answer is %d', async (status) => {
    handler = (_, response) => void response.writeHead(status, { 'content-length': '7' }).end();
    const error = await fetched({ maxBytes: 5 }, signed('S3CR3T')).catch((e: Error) => e);
    expect(String((error as Error).message)).toContain('/w/net.pkl');
    expect(inspect(error, { depth: 9 })).not.toContain('S3CR3T');
  });
});

describe('what must not fill the disk', () => {
  const endless: Handler = (_, response) => {
    const write = () => {
      while (response.write(Buffer.alloc(65_536)));
      response.once('drain', write);
    };
    response.writeHead(200, { etag: '"v"' });
    write();
  };

  it.each<[string, Handler]>([
    ['a download without an end', endless],
    ['one that is announced to be larger', serveFile(body)],
  ])('%s', async (_, serve) => {
    handler = serve;
    await expect(fetched({ maxBytes: 200_000 })).rejects.toThrow(
      /a download may have 0\.000200 GB here; check/,
    );
    expect(requests).toHaveLength(1);
    expect(inCache()).toEqual([]);
  });

  it('one that is larger than announced', async () => {
    handler = (_, response) => {
      response.socket!.end(`HTTP/1.1 200 OK\r\netag: "v"\r\ncontent-length: 3\r\n\r\nabcdef`);
    };
    const result = await fetched().catch((e: Error) => e);
    // The HTTP client itself may cut the surplus off.
    if (!(result instanceof Error)) expect(result.bytes).toBe(3);
    expect(inCache().filter((name) => name.includes('.part-'))).toEqual([]);
  });

  it('one that fails for good and cannot be continued', async () => {
    handler = serveFile(body, { etag: null, limit: 1000 });
    await expect(fetched()).rejects.toThrow(/cannot be reached or broke off/);
    expect(inCache()).toEqual([]);
  });

  it('one whose checksum is wrong', async () => {
    handler = serveFile(body);
    await expect(fetched({ sha256: '0'.repeat(64) })).rejects.toThrow(/damaged or altered/);
    expect(inCache()).toEqual([]);
  });

  it('one that is stopped stays where it can be continued', async () => {
    handler = (_, response) =>
      void response.writeHead(200, { 'content-length': 10, etag: '"v"' }).write('abc');
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 100);
    await expect(fetched({ signal: controller.signal })).rejects.toThrow(/abort/i);
    expect(inCache().map((name) => name.replace(/.*\.part-/, ''))).toEqual([
      `${host}-${process.pid}`,
      `${host}-${process.pid}.json`,
    ]);
  });

  it('what dead processes left of other addresses, when it is old or cannot be continued', async () => {
    const folder = join(cacheDir, 'downloads');
    mkdirSync(folder);
    const part = (name: string, etag: string | null, age = 0) => {
      const file = join(folder, `${name}.part-${host}-999999999`);
      writeFileSync(file, 'x');
      writeFileSync(`${file}.json`, JSON.stringify({ etag }));
      utimesSync(file, Date.now() / 1000 - age, Date.now() / 1000 - age);
    };
    part('old', '"v"', 8 * 24 * 3600);
    part('unversioned', null);
    part('recent', '"v"');
    handler = serveFile(body);
    await fetched();
    expect(inCache().filter((name) => name.includes('.part-'))).toEqual([
      `recent.part-${host}-999999999`,
      `recent.part-${host}-999999999.json`,
    ]);
  });
});

describe('redirects', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('never lead from https to http', async () => {
    // A server with https would need a certificate that this process trusts.
    const asked: string[] = [];
    vi.stubGlobal('fetch', async (address: URL) => {
      asked.push(String(address));
      return new Response(null, { status: 302, headers: { location: 'http://127.0.0.1:1/net.pkl?S3CR3T' } });
    });
    await expect(fetched({}, parseLocator('https://h/net.pkl?t=S3CR3T', {}))).rejects.toThrow(
      /^h redirects https:\/\/h\/net\.pkl from https to http, where/,
    );
    expect(asked).toEqual(['https://h/net.pkl?t=S3CR3T']);
    expect(inCache()).toEqual([]);
  });
});

describe('the Hub', () => {
  const env = () => ({ HF_ENDPOINT: origin(hub), HF_TOKEN: 'secret' });
  const hf = (environment: NodeJS.ProcessEnv = env()) => parseLocator('hf:own/repo/net.pkl', environment);

  it('redirects to a store; the token stays, the checksum counts', async () => {
    handler = (request, response) => {
      if (request.headers.host === new URL(origin(cdn)).host)
        return serveFile(body, { etag: '"not-a-checksum"' })(request, response);
      response
        .setHeader('x-linked-etag', `"${sha256}"`)
        .setHeader('location', `${origin(cdn)}/blob`)
        .writeHead(302)
        .end();
    };
    const result = await fetched({}, hf());
    expect(result.sha256).toBe(sha256);
    expect(requests.map((r) => r.headers.authorization)).toEqual(['Bearer secret', undefined]);
    expect((await fetched({}, hf())).fromCache).toBe(true);

    handler = (request, response) => {
      if (request.headers.host === new URL(origin(cdn)).host)
        return serveFile(body.subarray(1), { etag: '"x"' })(request, response);
      response
        .setHeader('x-linked-etag', `"${sha256.replace(/^./, '0')}"`)
        .setHeader('location', `${origin(cdn)}/blob`)
        .writeHead(302)
        .end();
    };
    await expect(fetched({}, hf())).rejects.toThrow(/arrived damaged or altered/);
    expect(existsSync(result.file)).toBe(true);
  });

  it.each([
    [404, /hf:own\/repo\/net\.pkl does not exist on 127.*check owner, repository, path and revision/],
    [401, /no access to hf:own\/repo\/net\.pkl \(401.*the token in HF_TOKEN may not read it/],
    [403, /no access/],
    [418, /answered 418/],
  ])('%d is told with a remedy', async (status, message) => {
    handler = (_, response) => void response.writeHead(status).end();
    await expect(fetched({}, hf())).rejects.toThrow(message);
    expect(requests).toHaveLength(1);
  });

  it('without a token says which to set', async () => {
    handler = (_, response) => void response.writeHead(401).end();
    await expect(fetched({}, hf({ HF_ENDPOINT: origin(hub) }))).rejects.toThrow(/set HF_TOKEN to a token/);
  });

  it('is asked again while it is busy', async () => {
    handler = (_, response) => {
      handler = serveFile(body);
      response.writeHead(503).end();
    };
    expect((await fetched({}, hf())).sha256).toBe(sha256);
    expect(requests).toHaveLength(2);
  });
});
