/** A file that cannot be written does not end a run. */
import { spawnSync } from 'node:child_process';
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { train } from '../../src/index.js';
import { nimgInName } from '../../src/run/file-names.js';
import {
  listSheets,
  listSnapshots,
  listStates,
  newestSnapshot,
  newestState,
  readRunJson,
} from '../../src/run/runs.js';
import type { TrainEvent } from '../../src/training/events.js';
import { iconSet, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';
import { tensorsOf, tinyOptions } from '../helpers/tiny-train.js';

const bin = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));
let dir: string;
let data: string;
beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

const everyTick = { tickKimg: 0.1, snapshotTicks: 1, stateTicks: 1 };

describe('a file in the place of a folder', () => {
  it('in mid-run is a warning, and the file is written at the next tick', async () => {
    const out = join(dir, 'middle');
    const events: TrainEvent[] = [];
    const blocked: Promise<void>[] = [];
    await train(
      { data, ...tinyOptions, ...everyTick, durationKimg: 0.5, out },
      {
        onEvent: (event) => {
          events.push(event);
          const place = join(out, 'samples');
          if (event.type === 'tick' && event.tick === 1)
            blocked.push(rm(place, { recursive: true }).then(() => writeFile(place, '')));
          if (event.type === 'warning' && event.code === 'NOT_WRITTEN')
            blocked.push(rm(place).then(() => mkdir(place)));
        },
      },
    );
    await Promise.all(blocked);
    const warnings = events
      .filter((event) => event.type === 'warning')
      .filter(({ code }) => code !== 'LABELS_NOT_USED');
    expect(warnings).toMatchObject([{ code: 'NOT_WRITTEN' }]);
    expect(warnings[0]!.message).toMatch(
      /^could not write the sample sheet: .*; the run continues, next try at tick 2$/,
    );
    expect(events).toContainEqual({ type: 'sampling', done: 0, total: 2, step: 1, numSteps: 2 });
    const order = events.map(({ type }) => type);
    expect(order.indexOf('state')).toBeLessThan(order.indexOf('snapshot'));
    expect((await readdir(join(out, 'samples'))).length).toBeGreaterThan(0);
    expect(await readRunJson(out)).toMatchObject({ status: 'done' });
  });

  it('at the end is an error, after all else is saved; going on writes the rest', async () => {
    const out = join(dir, 'end');
    const place = join(out, 'samples');
    const blocked: Promise<void>[] = [];
    const onEvent = (event: TrainEvent) => {
      if (event.type === 'step' && event.step === 1)
        blocked.push(rm(place, { recursive: true }).then(() => writeFile(place, '')));
    };
    const options = { data, ...tinyOptions, durationKimg: 0.05, sampleTicks: 1000, out };
    await expect(train(options, { onEvent })).rejects.toThrow(/cannot write .*fakes-000000-\d{3}\.png/);
    await Promise.all(blocked);
    expect(await newestState(out)).not.toBeNull();
    expect(await newestSnapshot(out)).not.toBeNull();
    expect(await readRunJson(out)).toMatchObject({ status: 'failed' });
    await rm(place);
    await train({ resume: out });
    expect(await readdir(place)).toHaveLength(1);
    expect(await readRunJson(out)).toMatchObject({ status: 'done' });
  });
});

it.runIf(process.platform === 'linux')(
  'a state beyond the limit of file sizes is a warning, then exit code 1',
  async () => {
    const out = join(dir, 'limit');
    const flags = [
      'train',
      '--data',
      data,
      ...tinyFlags,
      '--out',
      out,
      '--nosubdir',
      '--duration-kimg',
      '0.3',
    ];
    const ticks = ['--tick-kimg', '0.1', '--state-ticks', '1', '--snapshot-ticks', '1'];
    // In KiB: room for a snapshot, not for a state.
    const { status, stderr } = spawnSync(
      'bash',
      ['-c', 'ulimit -f 300; exec "$0" "$@"', process.execPath, bin, ...flags, ...ticks],
      { encoding: 'utf8' },
    );
    expect(stderr).toMatch(
      /warning: could not write the state: cannot write .*EFBIG.*; the run continues, next try at tick/,
    );
    expect(stderr.trim().split('\n').at(-1)).toMatch(/^error: cannot write .*training-state.*EFBIG/);
    expect(status).toBe(1);
    expect(await newestSnapshot(out)).not.toBeNull();
  },
);

it('every file of a run with ticks below 1,000 images stays', async () => {
  const out = join(dir, 'short-ticks');
  const files: Record<string, string[]> = { state: [], snapshot: [], samples: [] };
  const onEvent = (event: TrainEvent) => {
    if ('file' in event) files[event.type].push(event.file);
  };
  await train({ data, ...tinyOptions, ...everyTick, sampleTicks: 1, durationKimg: 0.99, out }, { onEvent });
  expect(files.snapshot.length).toBeGreaterThan(5);
  expect(await listSnapshots(out)).toEqual(files.snapshot);
  expect(await listSheets(out)).toEqual(files.samples);
  expect(await listStates(out)).toEqual(files.state.slice(-2));
  for (const file of files.snapshot) expect(file).toMatch(/network-snapshot-00000[01]-\d{3}\.safetensors$/);
});

/** Weights of a snapshot and bytes of a sheet. */
const contents = ([snapshot, sheet]: readonly string[]) =>
  Promise.all([tensorsOf(snapshot), readFile(sheet)]);

describe('a process that is killed once it has written a state', () => {
  it('leaves the snapshot and the sheet to the next one, which makes them as they would have been', async () => {
    const out = join(dir, 'killed');
    const options = { data, ...tinyOptions, ...everyTick, sampleTicks: 1, out };
    await train({ ...options, durationKimg: 0.2 });
    const lost = [(await newestSnapshot(out))!, (await listSheets(out)).at(-1)!] as const;
    const before = await contents(lost);
    await Promise.all(lost.map((file) => rm(file)));
    const written: string[] = [];
    const onEvent = (event: TrainEvent) => {
      if ('file' in event) written.push(event.file);
      else if (event.type === 'step') written.push('step');
    };
    await train({ resume: out, durationKimg: 0.3 }, { onEvent });
    expect(written.slice(0, 3)).toEqual([...lost, 'step']);
    expect(await contents(lost)).toEqual(before);
  });

  it('leaves older files to the next one, which removes them', async () => {
    const out = join(dir, 'killed-late');
    await train({ data, ...tinyOptions, ...everyTick, out, durationKimg: 0.3 });
    const [states, snapshots] = [await listStates(out), await listSnapshots(out)];
    const older = states[0].replace(/\d{3}\.safetensors$/, '001.safetensors');
    await copyFile(states[0], older);
    const json = await readFile(join(out, 'run.json'), 'utf8');
    await writeFile(join(out, 'run.json'), json.replace('"status": "done"', '"status": "running"'));
    await train({ resume: out, keep: 1 });
    expect(await listStates(out)).toEqual(states);
    const guide = snapshots.find((file) => nimgInName(file) >= 300 / 8);
    expect(await listSnapshots(out)).toEqual([guide, snapshots.at(-1)]);
  });

  it('owes nothing that was not due', async () => {
    const out = join(dir, 'killed-early');
    const controller = new AbortController();
    const onEvent = ({ type }: TrainEvent) => type === 'step' && controller.abort();
    await train({ data, ...tinyOptions, durationKimg: 0.2, out }, { onEvent, signal: controller.signal });
    const events: string[] = [];
    await train({ resume: out }, { onEvent: ({ type }) => events.push(type) });
    // An interrupted run draws no sheet.
    expect(events.indexOf('step')).toBeLessThan(events.indexOf('samples'));
  });
});

it('a run that diverges keeps its last good state and names it', async () => {
  const out = join(dir, 'diverging');
  await train({ data, ...tinyOptions, durationKimg: 0.1, out });
  const good = (await newestState(out))!;
  const events: TrainEvent[] = [];
  const diverging = train(
    { resume: out, lossScaling: 1e39, durationKimg: 5, ...everyTick, tickKimg: 0.05 },
    { onEvent: (event) => events.push(event) },
  );
  await expect(diverging).rejects.toMatchObject({
    code: 'DIVERGED',
    message: expect.stringContaining(
      `lower --lr (or --loss-scaling) and continue from the last good state with --resume ${good}`,
    ),
  });
  expect(await readRunJson(out)).toMatchObject({ status: 'failed', reason: 'DIVERGED' });
  expect(
    events.find((event) => event.type === 'warning' && event.code === 'NON_FINITE_GRADIENT'),
  ).toMatchObject({
    message: expect.stringMatching(/^step \d+: .*\(images 0000\d\/img0000\d{4}\.png, .* and \d+ more\)/),
  });
  const bad = events.filter(({ type }) => type === 'state');
  expect(bad.length).toBeGreaterThan(2);
  expect(await listStates(out)).toEqual([
    good,
    ...bad.slice(-2).map((event) => 'file' in event && event.file),
  ]);

  // The newest state is a bad one, and resuming from it says so; the good one works.
  const again: TrainEvent[] = [];
  const onEvent = (event: TrainEvent) => again.push(event);
  await expect(train({ resume: out, durationKimg: 5 }, { onEvent })).rejects.toThrow('not finite');
  expect(again.find(({ type }) => type === 'warning')).toMatchObject({
    code: 'BAD_STATE',
    message: expect.stringContaining(`--resume ${good}`),
  });
  await train({ resume: good, lossScaling: 1, durationKimg: 0.2 });
  expect(await readRunJson(out)).toMatchObject({ status: 'done' });
});
