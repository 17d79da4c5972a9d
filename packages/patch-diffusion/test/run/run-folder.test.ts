import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import type { TrainOptions } from '../../src/config/train-options.js';
import { datasetName } from '../../src/data/names.js';
import { folderName, RunFolder } from '../../src/run/run-folder.js';
import { findResume, listRuns, newestSnapshot, newestState, readRunJson } from '../../src/run/runs.js';
import { setAside } from '../../src/run/superseded.js';

let out = '';
beforeEach(async () => {
  out = await mkdtemp(join(tmpdir(), 'runs-'));
});
afterEach(() => rm(out, { recursive: true, force: true }));

const config = (change: Partial<TrainOptions> = {}): TrainOptions =>
  resolveTrainOptions({ call: { data: 'my photos.zip', out, seed: 1, ...change } });
const create = (change?: Partial<TrainOptions>) =>
  RunFolder.create({ config: config(change), version: '0', totalNimg: 1000 });

describe('creating', () => {
  it('numbers the runs and names them after the data', async () => {
    await mkdir(join(out, '00041-other'));
    const run = await create({ desc: 'try 2' });
    expect(run.dir).toBe(join(out, '00042-my-photos-try-2'));
    expect((await readdir(run.dir)).sort()).toEqual([
      'lock',
      'run.json',
      'samples',
      'snapshots',
      'state',
      'stats.jsonl',
    ]);
    await run.close('done');
    expect(await readdir(run.dir)).not.toContain('lock');
  });

  it('makes the folders above, and does not hang where it cannot', async () => {
    const run = await create({ out: join(out, 'a', 'b') });
    expect(run.dir).toBe(join(out, 'a', 'b', '00000-my-photos'));
    await run.close('done');
    if (process.platform === 'linux')
      await expect(create({ out: '/proc/nope' })).rejects.toThrow('cannot create');
  });

  it('gives each of many at once a folder of its own', async () => {
    const runs = await Promise.all(Array.from({ length: 8 }, () => create()));
    expect(new Set(runs.map((run) => run.dir)).size).toBe(8);
    await Promise.all(runs.map((run) => run.close('done')));
  });

  it('writes into --out itself with nosubdir, but not over another run', async () => {
    const run = await create({ nosubdir: true });
    expect(run.dir).toBe(out);
    await writeFile(run.file('snapshots', 'network-snapshot-000000.safetensors'), '');
    await run.close('done');
    await expect(create({ nosubdir: true })).rejects.toThrow(
      /already holds a run; continue it with --resume/,
    );
  });

  it('uses a folder again whose run saved nothing', async () => {
    const run = await create({ nosubdir: true });
    await expect(create({ nosubdir: true })).rejects.toThrow('already in use');
    await run.appendStats({ timestamp: 1, 'Progress/kimg': { num: 1, mean: 2, std: 0 } });
    await run.fail(new UserError('FILE_ENOSPC', 'disk full'));
    const again = await create({ nosubdir: true });
    expect(again.json).toMatchObject({ status: 'running', step: 0 });
    expect(await readFile(join(out, 'stats.jsonl'), 'utf8')).toBe('');
    await again.close('done');
  });

  it('says when it may not write', async () => {
    await writeFile(join(out, 'file'), '');
    await expect(create({ out: join(out, 'file') })).rejects.toMatchObject({ name: 'UserError' });
    if (process.getuid?.() === 0) return; // root may write anywhere
    await chmod(out, 0o500);
    await expect(create()).rejects.toThrow(/permission denied; choose an --out/);
    await chmod(out, 0o700);
  });

  it.each([
    ['/a/b/Photos.zip', 'Photos'],
    ['/a/b/', 'b'],
    ['größe & co', 'größe-co'],
    ['/a/train-images-idx3-ubyte.gz', 'train-images'],
    ['..hidden', 'hidden'],
    ['$$$', 'data'],
  ])('names %s %s', (path, name) => {
    expect(folderName(datasetName(path))).toBe(name);
  });
});

it('makes runs of several processes that start at the same moment in a new folder', async () => {
  const [processes, rounds] = [4, 20];
  const module = new URL('../../dist/run/run-folder.js', import.meta.url).href;
  const code = `
    import { RunFolder } from ${JSON.stringify(module)};
    const config = ${JSON.stringify(config())};
    process.stdin.once('data', async () => {
      for (let i = 0; i < ${rounds}; i++) {
        const out = ${JSON.stringify(out)} + '/' + i + '/new/folder';
        const run = await RunFolder.create({ config: { ...config, out }, version: '0', totalNimg: 1 });
        await run.close('done');
      }
      process.exit();
    });
    process.stdout.write('ready');`;
  const children = Array.from({ length: processes }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', code], { stdio: ['pipe', 'pipe', 'inherit'] }),
  );
  const ends = children.map((child) => once(child, 'exit'));
  await Promise.all(children.map((child) => once(child.stdout, 'data')));
  for (const child of children) child.stdin.write('go');
  expect((await Promise.all(ends)).map(([status]) => status)).toEqual(children.map(() => 0));
  for (let i = 0; i < rounds; i++)
    expect(await readdir(join(out, String(i), 'new/folder'))).toHaveLength(processes);
});

describe('recording', () => {
  it('keeps configuration, status and progress in run.json', async () => {
    const run = await create();
    await Promise.all([run.update({ step: 3, nimg: 300 }), run.update({ step: 4, nimg: 400 })]);
    expect(await readRunJson(run.dir)).toMatchObject({
      format: 1,
      status: 'running',
      pid: process.pid,
      host: hostname(),
      step: 4,
      nimg: 400,
      totalNimg: 1000,
      config: config(),
    });
    await run.fail(new UserError('FILE_ENOSPC', 'disk full'));
    await run.close('done');
    expect(await readRunJson(run.dir)).toMatchObject({ status: 'failed', error: 'disk full' });
  });

  it('takes away what a killed writer left behind', async () => {
    const run = await create();
    const left = run.file('state', '.training-state-000001.safetensors.4711-0a1b2c3d.tmp');
    await writeFile(left, 'half');
    await run.close('interrupted');
    const again = await RunFolder.reopen(run.dir, { config: config(), version: '0', totalNimg: 1000 });
    expect(await readdir(join(run.dir, 'state'))).toEqual([]);
    await again.close('done');
  });

  it('appends statistics and cuts off a torn line when it is resumed', async () => {
    const run = await create();
    await run.appendStats({ timestamp: 1, 'Loss/loss': { num: 1, mean: 2, std: 0 } });
    await run.close('interrupted');
    await appendFile(join(run.dir, 'stats.jsonl'), '{"timestamp":2,"Lo');
    const again = await RunFolder.reopen(run.dir, { config: config(), version: '0', totalNimg: 1000 });
    await again.appendStats({ timestamp: 3 });
    await again.close('done');
    const lines = (await readFile(join(run.dir, 'stats.jsonl'), 'utf8')).trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).timestamp)).toEqual([1, 3]);
  });

  it('keeps the start of the run when it is resumed', async () => {
    const run = await create();
    await run.update({ step: 7, nimg: 70 });
    await run.close('interrupted');
    const again = await RunFolder.reopen(run.dir, { config: config(), version: '0', totalNimg: 1000 });
    expect(again.json).toMatchObject({ startedAt: run.json.startedAt, step: 7, nimg: 70, status: 'running' });
    await again.close('done');
  });
});

describe('locking', () => {
  const reopen = (dir: string) => RunFolder.reopen(dir, { config: config(), version: '0', totalNimg: 1 });

  it('lets one process in at a time', async () => {
    const run = await create();
    await expect(reopen(run.dir)).rejects.toThrow(`already in use by process ${process.pid}`);
    await run.close('done');
    await (await reopen(run.dir)).close('done');
  });

  it('takes over the lock of a process that has ended', async () => {
    const run = await create();
    await run.close('done');
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    const owner = { pid: child.pid, host: hostname(), processStart: null, token: 'x' };
    await writeFile(join(run.dir, 'lock'), JSON.stringify(owner));
    await (await reopen(run.dir)).close('done');
  });

  it('takes over when the process id now belongs to another process', async () => {
    const run = await create();
    await run.close('done');
    const owner = { pid: process.pid, host: hostname(), processStart: '1', token: 'x' };
    await writeFile(join(run.dir, 'lock'), JSON.stringify(owner));
    if (process.platform === 'linux') await (await reopen(run.dir)).close('done');
    else await expect(reopen(run.dir)).rejects.toThrow('in use');
  });

  it('takes over a damaged lock, and lets only one of many in', async () => {
    const run = await create();
    await run.close('done');
    await writeFile(join(run.dir, 'lock'), '{');
    const tries = await Promise.allSettled(Array.from({ length: 12 }, () => reopen(run.dir)));
    const won = tries.filter((t) => t.status === 'fulfilled');
    expect(won).toHaveLength(1);
    await won[0]!.value.close('done');
    expect((await readdir(run.dir)).filter((name) => name.startsWith('lock'))).toEqual([]);
  });

  it('respects a fresh lock of another host', async () => {
    const run = await create();
    await run.close('done');
    const owner = { pid: 1, host: 'elsewhere', processStart: null, token: 'x' };
    await writeFile(join(run.dir, 'lock'), JSON.stringify(owner));
    await expect(reopen(run.dir)).rejects.toThrow('already in use by process 1 on elsewhere');
  });

  it('says who holds a lock on another host, since when, and how to take over', async () => {
    const run = await create();
    await run.close('done');
    const lock = join(run.dir, 'lock');
    const since = '2026-01-02T03:04:05.000Z';
    await writeFile(
      lock,
      JSON.stringify({ pid: 7, host: 'elsewhere', processStart: null, since, token: 'x' }),
    );
    const silentFor = (sec: number) => utimes(lock, new Date(), new Date(Date.now() - sec * 1000));
    await silentFor(200);
    await expect(reopen(run.dir)).rejects.toThrow(
      new RegExp(
        `in use by process 7 on elsewhere since ${since} \\(last sign of life 20[01] s ago, one is due every 15 s\\); ` +
          `stop it there first, or, if it is gone, remove ${lock} or try again in (400|399) s$`,
      ),
    );
    await silentFor(601);
    await (await reopen(run.dir)).close('done');
  });

  it('leaves nothing of processes that were killed while they took it', async () => {
    const run = await create();
    await run.close('done');
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    const dead = JSON.stringify({ pid: child.pid, host: hostname(), processStart: null, token: 'x' });
    const draft = `.lock.${hostname().replace(/\W+/g, '_')}-${child.pid}-0123abcd.tmp`;
    for (const name of [draft, 'lock.clearing']) await writeFile(join(run.dir, name), dead);
    await (await reopen(run.dir)).close('done');
    expect((await readdir(run.dir)).filter((name) => name.includes('lock'))).toEqual([]);
  });

  it('takes over at once where a process was killed while it removed a lock', async () => {
    const run = await create();
    await run.close('done');
    const child = spawn(process.execPath, ['-e', '']);
    await once(child, 'exit');
    const dead = JSON.stringify({ pid: child.pid, host: hostname(), processStart: null, token: 'x' });
    const far = JSON.stringify({ pid: 7, host: 'elsewhere', processStart: null, token: 'x' });
    const [lock, clearing] = [join(run.dir, 'lock'), join(run.dir, 'lock.clearing')];
    // An earlier version left an empty one.
    for (const left of [dead, '']) {
      await writeFile(lock, dead);
      await writeFile(clearing, left);
      await (await reopen(run.dir)).close('done');
    }
    await writeFile(lock, dead);
    await writeFile(clearing, far);
    await utimes(clearing, new Date(), new Date(Date.now() - 30_000));
    await expect(reopen(run.dir)).rejects.toThrow(
      /is being taken over by process 7 on elsewhere .*if it is gone, remove .*lock\.clearing or try again in 30 s$/,
    );
    expect((await readdir(run.dir)).filter((name) => name.startsWith('lock'))).toEqual([
      'lock',
      'lock.clearing',
    ]);
  });

  it('is renewed where run.json cannot be written', async () => {
    const run = await create();
    const file = join(run.dir, 'run.json');
    await rm(file);
    await mkdir(join(file, 'in the way'), { recursive: true });
    const lock = join(run.dir, 'lock');
    await utimes(lock, new Date(0), new Date(0));
    await expect(run.update({ step: 1 })).rejects.toThrow('run.json');
    expect(Date.now() - (await stat(lock)).mtimeMs).toBeLessThan(60_000);
    await expect(run.close('done')).rejects.toThrow('run.json');
    expect(await readdir(run.dir)).not.toContain('lock');
  });
});

describe('finding', () => {
  it('finds runs, states, snapshots and what to resume', async () => {
    const first = await create();
    const second = await create();
    for (const name of ['training-state-000009', 'training-state-000010', 'training-state-000002']) {
      await writeFile(first.file('state', `${name}.safetensors`), '');
      await writeFile(first.file('state', `.${name}.safetensors.tmp`), '');
    }
    await writeFile(first.file('snapshots', 'network-snapshot-000100.safetensors'), '');
    await first.close('interrupted');
    await second.close('done');
    await mkdir(join(out, '00077-empty'));

    expect((await listRuns(out)).map((run) => run.dir)).toEqual([first.dir, second.dir]);
    const newest = first.file('state', 'training-state-000010.safetensors');
    expect(await newestState(first.dir)).toBe(newest);
    expect(await newestSnapshot(first.dir)).toBe(
      first.file('snapshots', 'network-snapshot-000100.safetensors'),
    );
    expect(await newestState(second.dir)).toBeNull();
    for (const what of ['newest', first.dir, newest]) {
      expect(await findResume(what, out)).toMatchObject({ runDir: first.dir, state: newest });
    }
    await expect(findResume(second.dir, out)).rejects.toThrow('has no saved state yet');
    await expect(findResume(join(out, '00077-empty'), out)).rejects.toThrow('is not a run folder');
    await expect(findResume(join(out, 'nothing'), out)).rejects.toThrow('it does not exist; check the path');
  });

  it('sets newer files aside by their number, and never over earlier ones', async () => {
    const run = await create();
    await run.close('interrupted');
    const files = [
      'state/training-state-999999',
      'state/training-state-1000001',
      'snapshots/network-1000000',
    ];
    for (let round = 0; round < 2; round++) {
      for (const file of files) await writeFile(join(run.dir, `${file}.safetensors`), String(round));
      for (const mean of [999_999.5, 1_000_001]) {
        const line = { 'Progress/kimg': { num: 1, mean, std: 0 } };
        await appendFile(join(run.dir, 'stats.jsonl'), `${JSON.stringify(line)}\n`);
      }
      const aside = (await setAside(run.dir, { step: 9, nimg: 999_999_900 }))!;
      expect(aside).toBe(join(run.dir, 'superseded', `0000${round}`));
      expect(await readFile(join(aside, `${files[1]}.safetensors`), 'utf8')).toBe(String(round));
      expect(await readFile(join(aside, `${files[2]}.safetensors`), 'utf8')).toBe(String(round));
      expect((await readFile(join(aside, 'stats.jsonl'), 'utf8')).trim().split('\n')).toHaveLength(1);
    }
    expect(await newestState(run.dir)).toMatch(/training-state-999999\.safetensors$/);
    expect(await newestSnapshot(run.dir)).toBeNull();
    expect(await setAside(run.dir, { step: 9, nimg: 999_999_900 })).toBeNull();
    // The next number, also where somebody has tidied up.
    await rm(join(run.dir, 'superseded/00000'), { recursive: true });
    await appendFile(join(run.dir, 'stats.jsonl'), `${JSON.stringify({ 'Progress/kimg': { mean: 2e6 } })}\n`);
    expect(await setAside(run.dir, { step: 9, nimg: 999_999_900 })).toBe(
      join(run.dir, 'superseded', '00002'),
    );
  });

  it('says when run.json is damaged', async () => {
    const run = await create();
    await run.close('done');
    await writeFile(join(run.dir, 'run.json'), '{"status":');
    await expect(readRunJson(run.dir)).rejects.toThrow('is damaged');
    expect(await listRuns(out)).toEqual([]);
  });
});
