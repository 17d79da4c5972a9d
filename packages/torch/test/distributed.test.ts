/** Several processes: each test starts real ones (fixtures/rank.mjs, on the built package). */
import { type ChildProcess, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { distributedIsAvailable, Store } from '../src/index.js';

// libtorch before 2.0 has no process groups.
const suite = describe.skipIf(!distributedIsAvailable());

const script = fileURLToPath(new URL('fixtures/rank.mjs', import.meta.url));
const started: ChildProcess[] = [];
afterEach(() => {
  for (const child of started.splice(0)) child.kill('SIGKILL');
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** What each rank prints, as long as it lives. */
async function ranks(
  part: string,
  size: number,
  ...more: string[]
): Promise<{ said: unknown[]; pids: number[] }> {
  const port = String(await freePort());
  const children = Array.from({ length: size }, (_, rank) =>
    spawn(process.execPath, [script, part, String(rank), String(size), port, ...more], {
      stdio: ['ignore', 'pipe', 'inherit'],
    }),
  );
  started.push(...children);
  const said = children.map(
    (child) =>
      new Promise((resolve) => {
        let text = '';
        child.stdout!.on('data', (bytes: Buffer) => {
          text += bytes;
          if (text.includes('\n')) resolve(JSON.parse(text));
        });
        child.on('close', () => resolve(null));
      }),
  );
  const waited = part === 'loss' ? said.slice(0, -1) : said;
  return { said: await Promise.all(waited), pids: children.map(({ pid }) => pid!) };
}

suite('processes', () => {
  it('sum, broadcast, gather texts and wait for each other', async () => {
    const { said } = await ranks('collectives', 2);
    const same = { missing: null, sum: [3, 30], same: [6, 6, 6], texts: ['0', 'x1'] };
    expect(said).toEqual([
      { hello: 'from 1 ü', ...same },
      { hello: 'from 0 ü', ...same },
    ]);
  });

  it('sum gradients, also those that a rank has no share in', async () => {
    const { said } = await ranks('gradients', 3);
    // a: 3 · b + (1 + 2 + 3); b: 3 · column sums of a; in the second round without the 1 of rank 0.
    const round = (own: number) => [[15 + own, 18 + own, 15 + own, 18 + own], [12, 18], [0]];
    expect(said).toEqual([0, 1, 2].map(() => [round(6), round(5)]));
  });

  it.each([
    ['SIGKILL', { kind: 'lost', rank: 2 }],
    ['SIGSTOP', { kind: 'lost', rank: 2 }],
    ['fail', { kind: 'failed', rank: 2, message: 'out of paper' }],
  ])('notice that one is lost (%s)', async (how, verdict) => {
    const { said } = await ranks('loss', 3, how);
    expect(said).toMatchObject([{ verdict }, { verdict }]);
    // A connection that is closed ends what waits for it; one that is merely silent does not.
    if (how === 'SIGKILL')
      expect(said).toMatchObject([{ failure: expect.stringMatching(/closed|reset/i) }, {}]);
    if (how === 'SIGSTOP') expect(said).toMatchObject([{ failure: null }, { failure: null }]);
  });
});

suite('a store', () => {
  const at = async (isServer: boolean) => ({
    host: '127.0.0.1',
    port: await freePort(),
    isServer,
    prefix: '',
  });

  it('that nobody serves is an error in time', async () => {
    const address = await at(false);
    await expect(Store.open(address, 300)).rejects.toThrow(String(address.port));
  });

  it('whose port is taken is an error', async () => {
    const address = await at(true);
    const first = await Store.open(address, 300);
    await expect(Store.open(address, 300)).rejects.toThrow(/address already in use|EADDRINUSE/i);
    expect(await first.add('n', 2)).toBe(2);
  });
});
