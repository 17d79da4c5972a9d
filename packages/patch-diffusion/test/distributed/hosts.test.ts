/**
 * Ranks on several hosts, which are network namespaces here. `PATCH_DIFFUSION_ALL_CASES=1` adds those that take longer;
 * they wait as long for a lost rank as users do.
 */
import { spawn } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { distributedIsAvailable } from '@patch-diffusion/torch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderDemoSet } from '../../src/prepare/demo-images.js';
import { readRunJson } from '../../src/run/runs.js';
import { type Running, startCli } from '../helpers/cli.js';
import { Hosts, noHostsBecause } from '../helpers/hosts.js';
import { ends, RANK_FLAGS, weightDifference } from '../helpers/rank-runs.js';

const why = distributedIsAvailable() ? noHostsBecause() : 'needs libtorch 2';
if (why) console.warn(`several hosts: skipped, ${why}`);
const ALL = Boolean(process.env.PATCH_DIFFUSION_ALL_CASES);

let dir = '';
const networks: Hosts[] = [];
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'hosts-'));
  await renderDemoSet(join(dir, 'icons.zip'), { resolution: 16 });
  if (ALL) await renderDemoSet(join(dir, 'other.zip'), { resolution: 16, background: 'pastel' });
});
afterAll(async () => {
  for (const hosts of networks) hosts.remove();
  await rm(dir, { recursive: true, force: true });
});

function hostsOf(count: number): Hosts {
  const hosts = new Hosts(count);
  networks.push(hosts);
  return hosts;
}

const at = (name: string) => join(dir, name);
const PORT = '29500';
const LONG = '--duration-kimg 1000 --state-ticks 1';

/** One command line of `train` for all ranks. @param own what one of them is told otherwise */
function start(
  hosts: Hosts,
  flags: string,
  own: (rank: number) => { readonly flags?: string; readonly env?: Record<string, string> } = () => ({}),
  worldSize = 4,
): Running[] {
  const perHost = worldSize / hosts.count;
  return Array.from({ length: worldSize }, (_, rank) => {
    const other = own(rank);
    const env: Record<string, string> = {
      ...{ RANK: String(rank), LOCAL_RANK: String(rank % perHost) },
      ...{ WORLD_SIZE: String(worldSize), LOCAL_WORLD_SIZE: String(perHost) },
      ...{ MASTER_ADDR: hosts.address(0), MASTER_PORT: PORT, PATCH_DIFFUSION_LOST_SEC: ALL ? '20' : '6' },
      ...other.env,
    };
    const words = ['train', ...flags.split(' '), ...(other.flags?.split(' ') ?? [])];
    return startCli(words, { cwd: dir, env, before: hosts.on(Math.floor(rank / perHost)) });
  });
}

const train = (hosts: Hosts, flags: string, ...more: Partial<Tail>) =>
  start(hosts, `${RANK_FLAGS} ${flags}`, ...more);
type Tail = [own: Parameters<typeof start>[2], worldSize: number];

const errorsOf = (text: string): string[] => text.split('\n').filter((line) => line.startsWith('error:'));

/** After the harm all but `lost` end with exit code 1, and one line of one of them names it. */
async function expectCleanEnd(
  ranks: readonly Running[],
  run: string,
  lost: number,
  harm: () => void,
): Promise<void> {
  await ranks[0].until('tick 2');
  const begin = performance.now();
  harm();
  const outcomes = await ends(ranks.filter((_, rank) => rank !== lost));
  if (ALL) console.log(`${run}: ended after ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  for (const { code, stderr } of outcomes) expect(code, stderr).toBe(1);
  const errors = outcomes.flatMap(({ stderr }) => errorsOf(stderr));
  expect(errors).toEqual([
    expect.stringMatching(
      new RegExp(`^error: rank ${lost} \\(process ${ranks[lost].child.pid} on host\\d\\) is lost`),
    ),
  ]);
}

async function expectResumes(hosts: Hosts, run: string): Promise<void> {
  const before = (await readRunJson(at(run)))!;
  expect(before.status).not.toBe('done');
  const again = start(
    hosts,
    `--resume ${run} --duration-kimg ${(before.nimg + 8) / 1000}`,
    undefined,
    hosts.count,
  );
  for (const { code, stderr } of await ends(again)) expect(code, stderr).toBe(0);
  const after = (await readRunJson(at(run)))!;
  expect(after.status).toBe('done');
  expect(after.nimg).toBeGreaterThan(before.nimg);
  expect(await readdir(at(run))).not.toContain('lock');
}

/** Ends what a test has left, and waits for it. */
async function endAll(ranks: readonly Running[]): Promise<void> {
  for (const { child } of ranks) child.kill('SIGKILL');
  await ends(ranks);
}

const suite = describe.skipIf(why !== null);

suite('ranks on several hosts', () => {
  it.each(ALL ? [2, 4] : [4])('train on %i hosts as one process does', async (count) => {
    const flags = '--schedule stochastic --duration-kimg 0.08';
    const hosts = hostsOf(count);
    const alone = startCli(['train', ...`${RANK_FLAGS} ${flags} --out alone${count}`.split(' ')], {
      cwd: dir,
    });
    const runs = [alone, ...train(hosts, `${flags} --out on${count}`)];
    for (const { code, stderr } of await ends(runs)) expect(code, stderr).toBe(0);
    expect(await weightDifference(at(`alone${count}`), at(`on${count}`))).toBeLessThan(2e-6);
  });

  it.each(ALL ? [1, 0] : [1])('end when the cable of host %i is cut in mid-step; all go on', async (host) => {
    const hosts = hostsOf(2);
    const run = `cut${host}`;
    const ranks = train(hosts, `${LONG} --out ${run}`, undefined, 2);
    try {
      await ranks[0].until('tick 2');
      hosts.cut(host);
      // Each side sees that the other is gone. Those that are cut off from rank 0 name it.
      const [first, second] = await ends(ranks);
      expect([first.code, second.code]).toEqual([1, 1]);
      expect(errorsOf(first.stderr)).toEqual([
        expect.stringMatching(/^error: rank 1 \(process \d+ on host1\) is lost: /),
      ]);
      expect(errorsOf(second.stderr)).toEqual([
        expect.stringMatching(/^error: rank 0 \(process \d+ on host0\) is lost: /),
      ]);
      hosts.mend(host);
      await expectResumes(hosts, run);
    } finally {
      await endAll(ranks);
    }
  });
});

describe.runIf(ALL && why === null)('of four ranks on four hosts', () => {
  it.each([
    [3, 'killed', 'SIGKILL'],
    [0, 'killed', 'SIGKILL'],
    [2, 'stopped', 'SIGSTOP'],
    [0, 'stopped', 'SIGSTOP'],
  ] as const)('rank %i is %s: the others end and name it', async (lost, what, signal) => {
    const hosts = hostsOf(4);
    const run = `${what}${lost}`;
    const ranks = train(hosts, `${LONG} --out ${run}`);
    try {
      await expectCleanEnd(ranks, run, lost, () => ranks[lost].child.kill(signal));
      if (signal === 'SIGSTOP') {
        // One that goes on later finds that it was given up.
        ranks[lost].child.kill('SIGCONT');
        expect((await ranks[lost].end).code).toBe(1);
      }
      await endAll(ranks);
      await expectResumes(hosts, run);
    } finally {
      await endAll(ranks);
    }
  });

  it('three are left when one cable is cut', async () => {
    const hosts = hostsOf(4);
    const ranks = train(hosts, `${LONG} --out cut-of-four`);
    try {
      await expectCleanEnd(ranks, 'cut-of-four', 2, () => hosts.cut(2));
      expect((await ranks[2].end).code).toBe(1);
      hosts.mend(2);
      await expectResumes(hosts, 'cut-of-four');
    } finally {
      await endAll(ranks);
    }
  });

  it('one is slow: it is reported, and the run goes on', async () => {
    const hosts = hostsOf(4);
    const ranks = train(hosts, `${LONG} --out slow`);
    let isStopped = false;
    // Three quarters of the time it stands still, far shorter than what counts as lost.
    let turn = 0;
    const brake = setInterval(() => {
      const stop = turn++ % 4 !== 3;
      if (stop !== isStopped) ranks[1].child.kill(stop ? 'SIGSTOP' : 'SIGCONT');
      isStopped = stop;
    }, 20);
    try {
      await ranks[0].until(/rank 1 \(process \d+ on host1\) takes \d+ ms for an update/);
      clearInterval(brake);
      ranks[1].child.kill('SIGCONT');
      ranks[0].child.kill('SIGINT');
      for (const { code, stderr } of await ends(ranks)) expect(code, stderr).toBe(130);
    } finally {
      clearInterval(brake);
      ranks[1].child.kill('SIGCONT');
      await endAll(ranks);
    }
  });

  const told = (what: { flags?: string; env?: Record<string, string> }) => (rank: number) =>
    rank === 2 ? what : {};

  it.each([
    ['another world size', { env: { WORLD_SIZE: '8' } }, /rank 2 was told of 8 ranks, rank 0 of 4; /],
    ['other options', { flags: '--lr-rampup-kimg 1' }, /rank 2 has --lr-rampup-kimg 1, rank 0 has 0; /],
    [
      'other data',
      { flags: '--data other.zip' },
      /rank 2 has other images, names or labels than rank 0 \(.*\); /,
    ],
  ])('one has %s: each says so in a line', async (what, own, message) => {
    const outcomes = await ends(train(hostsOf(4), `--out none-${what.length}`, told(own)));
    expect(outcomes.every(({ code }) => code === 1 || code === 2)).toBe(true);
    expect(outcomes[2].code).toBe(2);
    const errors = outcomes.flatMap(({ stderr }) => errorsOf(stderr));
    expect(errors.length).toBeGreaterThan(0);
    for (const error of errors) expect(error).toMatch(message);
  });

  it('the port is taken: rank 0 says so, the others that it does not answer', async () => {
    const hosts = hostsOf(4);
    const server = `require('node:net').createServer(() => {}).listen(${PORT}, () => console.log('listening'))`;
    const [program, ...words] = [...hosts.on(0), process.execPath, '-e', server];
    const other = spawn(program, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      await new Promise((resolve) => other.stdout.once('data', resolve));
      const env = { PATCH_DIFFUSION_JOIN_SEC: '5' };
      const [first, ...others] = await ends(train(hosts, '--out none', () => ({ env })));
      expect(first.code).toBe(1);
      expect(errorsOf(first.stderr)).toEqual([
        expect.stringMatching(/^error: rank 0 cannot listen on port 29500 /),
      ]);
      for (const { code, stderr } of others) {
        expect(code).toBe(1);
        expect(errorsOf(stderr)).toEqual([
          expect.stringMatching(/^error: rank \d got no answer from rank 0 at 10\.99\.0\.1, port 29500, /),
        ]);
      }
    } finally {
      other.kill('SIGKILL');
    }
  });
});
