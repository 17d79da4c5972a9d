/** `--tensorboard` and `--csv`: what is in them, how they go on after a resume, and that they never end a run. */
import { execFileSync } from 'node:child_process';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { type TrainEvent, train } from '../../src/index.js';
import { readEvaluations } from '../../src/run/evaluations.js';
import { listEventFiles } from '../../src/run/event-files.js';
import { listStates } from '../../src/run/runs.js';
import { readStats, type Stat, type StatsLine } from '../../src/run/stats.js';
import { readEvents } from '../helpers/events.js';
import { pythonWith } from '../helpers/python.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

const newOptions = (out: string) => ({
  ...{ ...tinyOptions, data, out, batch: 4, samples: 4, tensorboard: true, csv: true },
  ...{ durationKimg: 0.12, tickKimg: 0.03, stateTicks: 1, sampleTicks: 2 },
});

const mean = (line: StatsLine, name: string): number => (line[name] as Stat).mean;

/** Steps and values of a scalar over all files of a run. */
async function scalar(run: string, wanted: string): Promise<[step: number, value: number][]> {
  const events = (await Promise.all((await listEventFiles(run)).map(readEvents))).flat();
  return events.flatMap(({ step, what }) =>
    what.case !== 'summary'
      ? []
      : what.value.value.flatMap(({ tag, value }): [number, number][] =>
          tag === wanted && value.case === 'simpleValue' ? [[Number(step), value.value]] : [],
        ),
  );
}

async function expectSameAsStats(run: string): Promise<void> {
  const lines = await readStats(run);
  const loss = await scalar(run, 'Loss/loss');
  expect(loss.map(([step]) => step)).toEqual(lines.map((line) => mean(line, 'Progress/step')));
  loss.forEach(([, value], i) => {
    expect(value).toBeCloseTo(mean(lines[i], 'Loss/loss'), 5);
  });
  const [header, ...rows] = (await readFile(join(run, 'stats.csv'), 'utf8')).trimEnd().split('\n');
  const columns = header.split(',');
  expect(columns.slice(0, 2)).toEqual(['timestamp', 'Loss/loss']);
  expect(new Set(columns)).toEqual(new Set(lines.flatMap((line) => Object.keys(line))));
  expect(rows).toHaveLength(lines.length);
  rows.forEach((row, i) => {
    const values = row.split(',');
    columns.forEach((name, c) => {
      const value = name === 'timestamp' ? lines[i].timestamp : (lines[i][name] as Stat | undefined)?.mean;
      expect(values[c], name).toBe(String(value ?? ''));
    });
  });
}

describe('trackers', () => {
  it('have what the statistics have, also after a resume from an older state', {
    timeout: 60_000,
  }, async () => {
    const run = join(dir, 'run');
    await train(newOptions(run));
    await expectSameAsStats(run);
    const [before] = await listEventFiles(run);
    const { length } = await readFile(before);

    const states = await listStates(run);
    await train({ resume: states[0], durationKimg: 0.15 });
    await expectSameAsStats(run);
    const files = await listEventFiles(run);
    expect(files).toHaveLength(2);
    expect(files[0]).toBe(before);
    const [, start] = await readEvents(files[1]);
    expect(start.what.case).toBe('sessionLog');
    expect(Number(start.step)).toBeGreaterThan(1);
    // What was cut off is kept.
    const aside = join(run, 'superseded/00000');
    expect((await readFile(join(aside, before.slice(run.length + 1)))).length).toBe(length);
    expect(await readdir(aside)).toContain('stats.csv');
  });

  it('begin with a resumed run that had none, and stay away where nobody asked', async () => {
    const run = join(dir, 'later');
    const first = { ...newOptions(run), csv: false, tensorboard: false };
    await train(first);
    const plain = await readdir(run);
    expect(plain.filter((name) => /csv|tfevents/.test(name))).toEqual([]);
    await train({ resume: run, durationKimg: 0.15, csv: true });
    const rows = (await readFile(join(run, 'stats.csv'), 'utf8')).trimEnd().split('\n').slice(1);
    expect(rows).toHaveLength((await readStats(run)).length);
  });

  it('warn once of what they cannot write, and the run goes on', async () => {
    const run = join(dir, 'refused');
    await mkdir(join(run, 'stats.csv'), { recursive: true });
    const warnings: string[] = [];
    const onEvent = (event: TrainEvent) => {
      if (event.type === 'warning') warnings.push(event.message);
    };
    const { interrupted } = await train({ ...newOptions(run), tensorboard: false }, { onEvent });
    expect(interrupted).toBe(false);
    expect(warnings.filter((text) => text.includes('write'))).toEqual([
      expect.stringContaining('could not write the table of statistics'),
    ]);
    expect((await readdir(run)).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('have the figures of evaluations, and which noise levels were drawn', async () => {
    const run = join(dir, 'evaluated');
    await train({
      ...newOptions(run),
      ...{ durationKimg: 0.06, holdout: 8, evalTicks: 1, evalImages: 4 },
    });
    const evaluations = await readEvaluations(run);
    const losses = await scalar(run, 'Evaluation/heldOutLoss');
    expect(losses.map(([step]) => step)).toEqual(evaluations.map(({ step }) => step));
    const [header, ...rows] = (await readFile(join(run, 'evaluations.csv'), 'utf8')).trimEnd().split('\n');
    expect(header).toMatch(/^at,kimg,step,heldOutLoss,heldOutLoss_low,heldOutLoss_high/);
    expect(rows).toHaveLength(evaluations.length);
    for (const [i, row] of rows.entries()) {
      const { at, nimg, step, metrics } = evaluations[i];
      const { value, low, high } = metrics.heldOutLoss!;
      expect(row.split(',').slice(0, 6)).toEqual([at, nimg! / 1000, step, value, low, high].map(String));
      expect(losses[i][1]).toBeCloseTo(value, 5);
    }
    const events = (await Promise.all((await listEventFiles(run)).map(readEvents))).flat();
    const histograms = events.flatMap(({ what }) =>
      what.case !== 'summary'
        ? []
        : what.value.value.flatMap(({ tag, value }) =>
            tag === 'Noise/ln_sigma' && value.case === 'histo' ? [value.value] : [],
          ),
    );
    expect(histograms).toHaveLength((await readStats(run)).length);
    const total = (of: (one: (typeof histograms)[number]) => number) =>
      histograms.reduce((sum, one) => sum + of(one), 0);
    const patches = total(({ num }) => num);
    expect(patches).toBe(total(({ bucket }) => bucket.reduce((a, b) => a + b, 0)));
    // EDM draws ln σ with mean −1.2 and deviation 1.2.
    const mean = total(({ sum }) => sum) / patches;
    expect(Math.abs(mean + 1.2)).toBeLessThan((6 * 1.2) / Math.sqrt(patches) + 0.1);
    const { min, max, bucketLimit } = histograms[0];
    expect(min).toBeLessThan(max);
    expect(bucketLimit).toEqual([...bucketLimit].sort((a, b) => a - b));
  });

  const python = pythonWith('tensorboard');
  it.skipIf(python === null)(
    `are read by TensorBoard${python === null ? ' (skipped: no Python with tensorboard; set PYTHON)' : ''}`,
    { timeout: 120_000 },
    async () => {
      const run = join(dir, 'for-python');
      await train(newOptions(run));
      const script = `
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'images': 0, 'scalars': 0, 'tensors': 0})
events.Reload()
image = events.Images('samples')[-1]
print(json.dumps({
  'loss': [[e.step, e.value] for e in events.Scalars('Loss/loss')],
  'scalars': sorted(events.Tags()['scalars']),
  'images': [e.step for e in events.Images('samples')],
  'size': [image.width, image.height], 'png': image.encoded_image_string[:4].hex(),
  'options': events.Tensors('options')[0].tensor_proto.string_val[0].decode(),
}))`;
      const answer = JSON.parse(
        execFileSync(python!, ['-I', '-c', script, run], { encoding: 'utf8' }),
      ) as Record<string, unknown>;
      const lines = await readStats(run);
      expect(answer.loss).toEqual(await scalar(run, 'Loss/loss'));
      expect(answer.scalars).toEqual(
        [...new Set(lines.flatMap((line) => Object.keys(line)))]
          .filter((name) => name !== 'timestamp')
          .sort(),
      );
      const sheets = await readdir(join(run, 'samples'));
      expect(answer.images).toHaveLength(sheets.length);
      expect(answer).toMatchObject({ size: [32, 32], png: '89504e47' });
      expect(answer.options).toContain('    "preset": "tiny"');
    },
  );
});
