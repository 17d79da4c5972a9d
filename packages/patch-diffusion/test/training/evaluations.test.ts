/** Evaluation while training: what is written and marked, that training is not disturbed, and when it ends a run. */
import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { generate, train } from '../../src/index.js';
import { bestSnapshot, readEvaluations } from '../../src/run/evaluations.js';
import { listSnapshots, readRunJson } from '../../src/run/runs.js';
import { memorisingReason } from '../../src/training/evaluations.js';
import type { TrainEvent } from '../../src/training/events.js';
import { iconSet, runCli, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tinyOptions } from '../helpers/tiny-train.js';

let dir = '';
let icons = '';
beforeAll(async () => {
  dir = await temporaryFolder();
  process.env.PATCH_DIFFUSION_CACHE = join(dir, 'cache');
  icons = await iconSet(dir);
});

const base = {
  ...tinyOptions,
  ...{ holdout: 24, tickKimg: 0.016, snapshotTicks: null, stateTicks: null, sampleTicks: null },
} as const;

describe('a run with --eval-ticks', () => {
  it('evaluates with a snapshot each, marks the best one, and trains as without', async () => {
    const [out, plain] = [join(dir, 'evaluated'), join(dir, 'plain')];
    const events: TrainEvent[] = [];
    const evaluated = {
      ...{
        evalTicks: 2,
        evalMetrics: ['loss', 'memorisation', 'kid'] as ('loss' | 'memorisation' | 'kid')[],
      },
      ...{ evalFeatures: 'classifier' as const, evalCount: 12, evalImages: 8, cond: true, dropout: 0.1 },
    };
    const options = { ...base, data: icons, durationKimg: 0.096 };
    await train({ ...options, ...evaluated, out }, { onEvent: (event) => events.push(event) });
    const results = events.filter((event) => event.type === 'evaluation');
    expect(results.length).toBeGreaterThanOrEqual(2);
    for (const { file, figures } of results) {
      expect(Object.keys(figures)).toEqual(['heldOutLoss', 'lossGap', 'memorised', 'kid']);
      expect(await readdir(join(out, 'snapshots'))).toContain(basename(file));
    }
    const lines = await readEvaluations(out);
    expect(lines.map(({ snapshot }) => snapshot)).toEqual(results.map(({ file }) => file));
    const losses = lines.map(({ metrics }) => metrics.heldOutLoss!.value);
    const best = await bestSnapshot(out);
    expect(best).toMatchObject({ from: 'evaluation', heldOutLoss: Math.min(...losses) });
    expect(results.filter(({ isBest }) => isBest).at(-1)!.file).toBe(best!.file);
    expect(await readdir(out)).not.toContain('evaluation');

    await train({ ...options, cond: true, dropout: 0.1, out: plain });
    expectSameState(await stateOf(out), await stateOf(plain));

    const { files } = await generate({
      run: out,
      snapshot: 'best',
      count: 1,
      steps: 1,
      out: join(dir, 'one'),
    });
    expect(files).toHaveLength(1);
    const { stdout } = await runCli(['info', out]);
    expect(stdout).toContain(basename(best!.file));
  });

  it('keeps the best one where others are removed, and sets aside what a resumed run left behind', async () => {
    const out = join(dir, 'kept');
    const options = { ...base, data: icons, out, evalTicks: 1, evalImages: 4, keep: 1 };
    await train({ ...options, durationKimg: 0.048, stateTicks: 1 });
    const states = await readdir(join(out, 'state'));
    const before = await readEvaluations(out);
    await train({ resume: join(out, 'state', states[0]), durationKimg: 0.064, keep: 1 });
    const after = await readEvaluations(out);
    const nimg = after.map((line) => line.nimg!);
    expect([...nimg].sort((a, b) => a - b)).toEqual(nimg);
    expect(new Set(nimg).size).toBe(nimg.length);
    const [aside] = await readdir(join(out, 'superseded'));
    const moved = (await readFile(join(out, 'superseded', aside, 'evaluations.jsonl'), 'utf8'))
      .trim()
      .split('\n');
    expect(before.length).toBeGreaterThanOrEqual(moved.length);
    const best = await bestSnapshot(out);
    expect(await listSnapshots(out)).toContain(best!.file);
  });

  it('a figure that cannot be measured is a warning; the run goes on', async () => {
    const out = join(dir, 'few');
    const evalInceptionWeights = join(dir, 'missing.pth');
    const warnings: string[] = [];
    await train(
      {
        ...base,
        data: icons,
        out,
        durationKimg: 0.032,
        evalTicks: 1,
        evalMetrics: ['fd'],
        evalInceptionWeights,
      },
      { onEvent: (event) => event.type === 'warning' && warnings.push(event.message) },
    );
    expect(warnings).toContainEqual(
      expect.stringMatching(/^could not evaluate .*missing\.pth.*; the run continues$/),
    );
    expect((await readRunJson(out))!.status).toBe('done');
  });
});

describe('--stop-on-memorising', () => {
  it('ends a run whose samples are copies, or whose gap rises above 3 %', () => {
    const figure = (low: number, floor: number | null = 0) => ({ low, floor });
    expect(memorisingReason([0.01, 0.02, 0.05], undefined)).toContain('5.0 %');
    expect(memorisingReason([0.05, 0.04, 0.05], undefined)).toBe(null);
    expect(memorisingReason([0.01, 0.02, 0.025], undefined)).toBe(null);
    expect(memorisingReason([0.04, 0.05], undefined)).toBe(null);
    expect(memorisingReason([], figure(0.1))).toContain('copies');
    expect(memorisingReason([], figure(0.1, 0.2))).toBe(null);
    expect(memorisingReason([], figure(0))).toBe(null);
  });

  it('ends with everything saved', async () => {
    // An evaluator that has seen enough at its second call.
    const { train: loop } = await import('../../src/training/loop.js');
    const { resolveTrainOptions } = await import('../../src/config/resolve.js');
    const out = join(dir, 'stopped');
    const events: TrainEvent[] = [];
    let calls = 0;
    const { interrupted } = await loop(
      resolveTrainOptions({
        call: { ...base, data: icons, out, durationKimg: 10, evalTicks: 1, stopOnMemorising: true },
      }),
      {
        onEvent: (event) => events.push(event),
        evaluator: async () => {
          const low = ++calls < 2 ? 0 : 0.5;
          return { figures: { memorised: { value: low, low, high: 1, floor: 0 } }, warnings: [] };
        },
      },
    );
    expect(interrupted).toBe(false);
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'memorising' });
    expect((await readRunJson(out))!.status).toBe('done');
    expect(await stateOf(out)).toBeTruthy();
  });

  it('and the others need what they belong to', async () => {
    const flags = ['train', '--data', icons, ...tinyFlags, '--dry-run'];
    for (const [more, message] of [
      [['--stop-on-memorising'], '--stop-on-memorising needs --eval-ticks'],
      [['--eval-metrics', 'fd'], '--eval-metrics needs --eval-ticks'],
      [['--eval-ticks', '2', '--stop-on-memorising'], 'add --holdout N'],
      [
        ['--eval-ticks', '2', '--eval-metrics', 'fd'],
        '--eval-metrics fd needs features; add --eval-features',
      ],
      [['--eval-ticks', '2', '--eval-features', 'inception'], 'add --eval-inception-weights'],
    ] as const) {
      const { code, stderr } = await runCli([...flags, ...more]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
    }
    const { code, stderr } = await runCli(['generate', '--run', join(dir, 'stopped'), '--snapshot', 'best']);
    expect([code, stderr]).toEqual([0, expect.anything()]);
  });
});
