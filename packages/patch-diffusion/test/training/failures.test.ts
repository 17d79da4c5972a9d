/** A file that cannot be written does not end a run. */
import { spawnSync } from 'node:child_process';
import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { train } from '../../src/index.js';
import { newestSnapshot, newestState, readRunJson } from '../../src/run/runs.js';
import type { TrainEvent } from '../../src/training/events.js';
import { iconSet, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

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
          if (event.type === 'warning') blocked.push(rm(place).then(() => mkdir(place)));
        },
      },
    );
    await Promise.all(blocked);
    const warnings = events.filter((event) => event.type === 'warning');
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
    const options = { data, ...tinyOptions, durationKimg: 0.05, sampleTicks: null, out };
    await expect(train(options, { onEvent })).rejects.toThrow(/cannot write .*fakes-000000\.png/);
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
