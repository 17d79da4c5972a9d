/** Several processes train one small network: the built command line, started by `--nproc` or by the environment. */
import { existsSync, renameSync, writeFileSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { distributedIsAvailable, Store } from '@patch-diffusion/torch';
import { freePort } from '@patch-diffusion/torch/free-port';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderDemoSet } from '../../src/prepare/demo-images.js';
import { readRunJson } from '../../src/run/runs.js';
import { readStats, type Stat } from '../../src/run/stats.js';
import { type Running, startCli } from '../helpers/cli.js';
import { ends, RANK_FLAGS, weightDifference } from '../helpers/rank-runs.js';
import { expectSameState, stateOf } from '../helpers/tiny-train.js';

// libtorch before 2.0 has no process groups.
const suite = describe.skipIf(!distributedIsAvailable());

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'ranks-'));
  await renderDemoSet(join(dir, 'icons.zip'), { resolution: 16 });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const at = (name: string) => join(dir, name);
const train = (flags: string, env?: Record<string, string | undefined>): Running =>
  startCli(['train', ...`${RANK_FLAGS} ${flags}`.split(' ')], { cwd: dir, env });

/** Ranks as torchrun starts them. */
async function byEnvironment(
  flags: string,
  worldSize: number,
  env: Record<string, string> = {},
): Promise<Running[]> {
  const common = {
    WORLD_SIZE: String(worldSize),
    MASTER_ADDR: '127.0.0.1',
    MASTER_PORT: String(await freePort()),
    ...env,
  };
  return Array.from({ length: worldSize }, (_, rank) => train(flags, { ...common, RANK: String(rank) }));
}
const difference = (a: string, b: string) => weightDifference(at(a), at(b));

/** A folder that rank 0 may write to, and make again, meanwhile. */
function putFileInPlaceOf(folder: string): void {
  for (let n = 0; ; n++) {
    try {
      renameSync(folder, `${folder}-${n}`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    try {
      writeFileSync(folder, '', { flag: 'wx' });
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

async function lossOf(run: string): Promise<Stat> {
  return (await readStats(at(run))).at(-1)!['Loss/loss'] as Stat;
}

suite('ranks give the result of one process', () => {
  it.each([
    ['stochastic', '--schedule stochastic --stratify --batch-gpu 4 --augment 0.5', [2, 4]],
    ['stratified', '--schedule stratified --real-p 0.4 --sigma-sampling info', [2]],
    ['progressive', '--schedule progressive --power-ema', [2]],
    ['annealed', '--schedule annealed --augment 0.5 --augment-at image', [2]],
    ['immiscible', '--schedule stratified --immiscible 4 --augment 0.5 --batch-gpu 4', [2]],
    ['muon', '--schedule annealed --optimizer muon --lr-cooldown 0.2', [2]],
  ])('%s', async (name, flags, sizes) => {
    const length = `${flags} --duration-kimg 0.12 --tick-kimg 0.12`;
    const runs = [1, ...sizes].map((nproc) => train(`${length} --nproc ${nproc} --out ${name}${nproc}`));
    for (const { code, stderr } of await ends(runs)) expect(code, stderr).toBe(0);
    const one = await lossOf(`${name}1`);
    // Muon multiplies small singular values, and their rounding, by up to 3.4445⁵ = 485.
    const rounding = name === 'muon' ? 2e-5 : 2e-6;
    for (const size of sizes) {
      expect(await difference(`${name}1`, `${name}${size}`)).toBeLessThan(rounding);
      const { num, mean } = await lossOf(`${name}${size}`);
      expect(num).toBe(one.num);
      expect(mean).toBeCloseTo(one.mean, 4);
    }
    // The bound above means something: other draws change the weights a thousand times as much.
    if (name !== 'progressive') return;
    expect((await train(`${length} --batch-gpu 4 --seed 8 --out other`).end).code).toBe(0);
    expect(await difference('progressive1', 'other')).toBeGreaterThan(2e-3);
  });

  it('when each draws sizes of its own, that of one process in as many rounds', async () => {
    const flags = '--schedule stochastic --duration-kimg 0.12';
    const runs = [
      train(`${flags} --batch-gpu 4 --out rounds`),
      train(`${flags} --rank-sizes independent --nproc 2 --out own`),
    ];
    for (const { code, stderr } of await ends(runs)) expect(code, stderr).toBe(0);
    expect(await difference('rounds', 'own')).toBeLessThan(2e-6);
  });
});

suite('a run of several ranks', () => {
  it.skipIf(availableParallelism() % 2 === 1)(
    'is the default on a CPU, and a resumed run keeps its number',
    async () => {
      // The other tests run with one thread each.
      const free = { OMP_NUM_THREADS: undefined };
      const flags = RANK_FLAGS.replace('--threads 1 ', '');
      const start = (more: string, env = {}) =>
        startCli(['train', ...more.split(' ')], { cwd: dir, env }).end;
      const begun = await start(`${flags} --duration-kimg 0.04 --out usual`, free);
      expect(begun.code, begun.stderr).toBe(0);
      expect(begun.stderr).toContain('Processes:   2 (--nproc)');
      expect(await readRunJson(at('usual'))).toMatchObject({ processes: 2 });
      // Also where a new run would be one process.
      const resumed = await start('--resume usual --duration-kimg 0.08');
      expect(resumed.code, resumed.stderr).toBe(0);
      expect(resumed.stderr).toContain('Processes:   2');
      const alone = await start('--resume usual --duration-kimg 0.12 --nproc 1');
      expect(alone.code, alone.stderr).toBe(0);
      expect(alone.stderr).not.toContain('Processes:');
      expect(await readRunJson(at('usual'))).not.toHaveProperty('processes');
      // An odd batch, threads that are given: one process.
      for (const other of [`${flags} --batch 7`, RANK_FLAGS]) {
        const { code, stderr } = await start(`${other} --duration-kimg 0.02 --out alone`, free);
        expect(code, stderr).toBe(0);
        expect(stderr).not.toContain('Processes:');
        await rm(at('alone'), { recursive: true });
      }
    },
  );

  it('goes on exactly: with dropout, and in other numbers of ranks without', async () => {
    const [short, long] = ['--duration-kimg 0.04', '--duration-kimg 0.1'];
    const dropout = '--dropout 0.2 --nproc 2';
    const begun = [
      train(`${long} ${dropout} --out whole`),
      train(`${short} ${dropout} --out halves`),
      train(`${long} --out alone`),
      train(`${short} --nproc 4 --out four`),
    ];
    for (const { code, stderr } of await ends(begun)) expect(code, stderr).toBe(0);
    const resume = (run: string, nproc: number) =>
      startCli(['train', '--resume', run, ...`${long} --nproc ${nproc}`.split(' ')], { cwd: dir }).end;
    for (const { code, stderr } of await Promise.all([resume('halves', 2), resume('four', 2)]))
      expect(code, stderr).toBe(0);
    expectSameState(await stateOf(at('whole')), await stateOf(at('halves')));
    expect(await difference('alone', 'four')).toBeLessThan(4e-6);
  });

  it('stops as one after a signal, and each rank has its log', async () => {
    const { child, until, end } = train('--duration-kimg 1000 --nproc 2 --out stopped');
    await until('tick 1');
    child.kill('SIGTERM');
    const { code, stderr } = await end;
    expect(code, stderr).toBe(130);
    expect(stderr).toContain('stopping: saving the training state');
    expect(stderr).not.toContain('error');
    expect(await readRunJson(at('stopped'))).toMatchObject({ status: 'interrupted' });
    expect(await readFile(at('stopped/rank-001.log'), 'utf8')).toMatch(
      /^Run folder: +stopped$[\s\S]*state saved/m,
    );
    expect(await readdir(at('stopped'))).not.toContain('lock');
  });

  it('writes where the time goes, for each rank', async () => {
    const { code, stderr } = await train('--duration-kimg 0.04 --nproc 2 --trace trace.json --out traced')
      .end;
    expect(code, stderr).toBe(0);
    for (const [rank, file] of ['trace.json', 'trace-rank1.json'].entries()) {
      const { traceEvents } = JSON.parse(await readFile(at(file), 'utf8'));
      const names = new Set(traceEvents.map(({ name }: { name: string }) => name));
      for (const name of ['data', 'forward', 'backward', 'wait for reduction', 'optimiser'])
        expect([...names]).toContain(name);
      expect(traceEvents.every(({ pid }: { pid: number }) => pid === rank)).toBe(true);
    }
  });
});

// Mostly waiting: side by side.
suite.concurrent('a rank that is lost', () => {
  const LOST = { PATCH_DIFFUSION_LOST_SEC: '2' };

  it.each([
    [1, 'SIGKILL'],
    [0, 'SIGKILL'],
    [1, 'SIGSTOP'],
  ] as const)('ends all (rank %i, %s), and the same command goes on', async (lost, signal) => {
    const out = `lost-${lost}-${signal}`;
    const ranks = await byEnvironment(`--duration-kimg 1000 --out ${out}`, 2, LOST);
    const survivor = 1 - lost;
    try {
      await ranks[0].until('tick 2');
      ranks[lost].child.kill(signal);
      const { code, stderr } = await ranks[survivor].end;
      expect(code, stderr).toBe(1);
      const errors = stderr.split('\n').filter((line) => line.startsWith('error:'));
      expect(errors).toEqual([
        expect.stringMatching(
          new RegExp(`^error: rank ${lost} \\(process ${ranks[lost].child.pid} on .*\\) is lost`),
        ),
      ]);
    } finally {
      ranks[lost].child.kill('SIGKILL');
      await ranks[lost].end;
    }
    const before = (await readRunJson(at(out)))!.nimg;
    const again = startCli(`train --resume ${out} --duration-kimg ${(before + 8) / 1000}`.split(' '), {
      cwd: dir,
    });
    const { code, stderr } = await again.end;
    expect(code, stderr).toBe(0);
  });

  it('is noticed, too, when it had come but does not connect', async () => {
    const port = await freePort();
    const env = { RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(port), ...LOST };
    const first = train('--out none', env);
    const address = { host: '127.0.0.1', port, isServer: false, prefix: 'patch-diffusion/' };
    const store = await Store.open(address, 60_000);
    await store.set('here/1', 'process 1 on nowhere');
    const { code, stderr } = await first.end;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: rank 1 \(process 1 on nowhere\) is lost: /m);
  });

  it('says itself why it fails; the others repeat it once', async () => {
    const ranks = await byEnvironment('--duration-kimg 1000 --out failing', 2, LOST);
    await ranks[0].until('tick 2');
    putFileInPlaceOf(at('failing/state'));
    ranks[0].child.kill('SIGINT');
    const [first, ...others] = await ends(ranks);
    expect(first.code, first.stderr).toBe(1);
    expect(first.stderr).toMatch(/^error: .*failing\/state/m);
    for (const { code, stderr } of others) expect({ code, stderr }).toEqual({ code: 1, stderr: '' });
  });

  it.runIf(existsSync('/proc'))(
    'takes no rank with it that nobody ends: the launcher is killed',
    async () => {
      const { child, until, end } = train('--duration-kimg 1000 --nproc 2 --out orphans');
      await until('tick 1');
      child.kill('SIGKILL');
      await end;
      const lock = async () => (await readdir(at('orphans'))).includes('lock');
      while (await lock()) await new Promise((resolve) => setTimeout(resolve, 20));
      expect(await readRunJson(at('orphans'))).toMatchObject({ status: 'interrupted' });
    },
  );
});

suite('--max-restarts', () => {
  it('starts all ranks again from the newest state, so often', async () => {
    const { child, until, end } = train('--duration-kimg 1000 --nproc 2 --max-restarts 1 --out restarted');
    const killFirst = async () => {
      const { pid } = JSON.parse(await readFile(at('restarted/lock'), 'utf8'));
      process.kill(pid, 'SIGKILL');
      return pid;
    };
    try {
      await until('tick 2');
      const first = await killFirst();
      await until(
        /starting all ranks again \(1 of 1\) from restarted\/state\/training-state-[\d-]+\.safetensors/,
      );
      // The second time it is over. The lock is then that of the new rank 0, which goes on from a state.
      await until(/again \(1 of 1\)[\s\S]*tick [1-9]/);
      expect(await killFirst()).not.toBe(first);
      const { code, stderr } = await end;
      expect(code, stderr).toBe(1);
      expect(stderr.match(/^error: rank 0 .* is lost/gm)).toHaveLength(2);
      expect(stderr.match(/starting all ranks again/g)).toHaveLength(1);
    } finally {
      child.kill('SIGKILL');
    }
    const { nimg } = (await readRunJson(at('restarted')))!;
    const again = startCli(`train --resume restarted --duration-kimg ${(nimg + 8) / 1000}`.split(' '), {
      cwd: dir,
    });
    const { code, stderr } = await again.end;
    expect(code, stderr).toBe(0);
  });

  it('leaves training that diverges alone: it would do so again', async () => {
    const { code, stderr } = await train(
      '--duration-kimg 1000 --loss-scaling 1e39 --nproc 2 --max-restarts 5 --out diverged',
    ).end;
    expect(code, stderr).toBe(1);
    expect(await readRunJson(at('diverged'))).toMatchObject({ status: 'failed', reason: 'DIVERGED' });
    expect(stderr).not.toContain('starting all ranks again');
  });

  it('leaves wrong use, signals and single processes alone', async () => {
    const wrong = [
      train('--nproc 3 --max-restarts 5 --out none'),
      train('--max-restarts 5 --out none'),
      train('--nproc 2 --max-restarts 5 --data none.zip --out none'),
    ];
    const stopped = train('--duration-kimg 1000 --nproc 2 --max-restarts 5 --out signalled');
    await stopped.until('tick 1');
    stopped.child.kill('SIGTERM');
    for (const { stderr } of await ends([...wrong, stopped]))
      expect(stderr).not.toContain('starting all ranks again');
    expect((await wrong[1].end).stderr).toMatch(/^error: --max-restarts 5 needs --nproc of 2 or more; /);
    expect((await wrong[1].end).code).toBe(2);
    expect((await stopped.end).code).toBe(130);
  });
});

suite.concurrent('wrong use is one line of each rank', () => {
  const one = { RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1' };

  it.each([
    [
      'half of the environment',
      one,
      2,
      /^error: RANK, WORLD_SIZE and MASTER_ADDR are set, but MASTER_PORT is not; /,
    ],
    [
      'a batch',
      { ...one, WORLD_SIZE: '3', MASTER_PORT: '1' },
      2,
      /^error: --batch 8 cannot be divided among 3 processes; use --batch 6 or 9/,
    ],
    [
      'a master that does not answer',
      { ...one, RANK: '1', MASTER_PORT: '9', PATCH_DIFFUSION_JOIN_SEC: '1' },
      1,
      /^error: rank 1 got no answer from rank 0 at 127\.0\.0\.1, port 9, within 1 s; /,
    ],
  ])('(%s)', async (_, env, exitCode, message) => {
    const { code, stderr } = await train('--out none', env).end;
    expect(stderr).toMatch(message);
    expect({ code, lines: stderr.trim().split('\n').length }).toEqual({ code: exitCode, lines: 1 });
  });

  it('(other options on one rank)', async () => {
    const port = String(await freePort());
    const common = { WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: port };
    const ranks = [
      train('--out none', { ...common, RANK: '0' }),
      train('--out none --lr 0.01', { ...common, RANK: '1' }),
    ];
    const [first, second] = await ends(ranks);
    expect(second).toMatchObject({
      code: 2,
      stderr: 'error: rank 1 has --lr 0.01, rank 0 has 0.001; make them the same\n',
    });
    expect(first.code).toBe(1);
    expect(first.stderr).toMatch(/^error: rank 1 has failed: rank 1 has --lr 0\.01/m);
  });

  it('(a rank that does not come)', async () => {
    const env = { ...one, MASTER_PORT: String(await freePort()), PATCH_DIFFUSION_JOIN_SEC: '1' };
    const { code, stderr } = await train('--out none', env).end;
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: rank 1 of 2 did not come to 127\.0\.0\.1, port \d+, within 1 s; /);
  });
});
