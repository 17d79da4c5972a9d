/** `evaluate --features` on a run of seconds: a classifier of the user's images, Inception from a file, references, mistakes. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { writeSafetensors } from '@patch-diffusion/torch';
import { beforeAll, describe, expect, it } from 'vitest';
import { gridPng } from '../../src/data/sheet.js';
import { evaluationTable } from '../../src/evaluation/table.js';
import { readNpz, writeNpz } from '../../src/formats/npz.js';
import { generate, train } from '../../src/index.js';
import { evaluating } from '../helpers/evaluating.js';
import { iconSet, runCli, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir = '';
let icons = '';
let run = '';
const { evaluate, refusal } = evaluating({ count: 40, steps: 1, lossImages: 8, threads: 1, device: 'cpu' });

beforeAll(async () => {
  dir = await temporaryFolder();
  process.env.PATCH_DIFFUSION_CACHE = join(dir, 'cache');
  icons = await iconSet(dir);
  run = join(dir, 'run');
  await train({ ...tinyOptions, data: icons, out: run, maxImages: 200, holdout: 60, durationKimg: 0.032 });
});

const FEATURE_FIGURES = ['fd', 'kid', 'precision', 'recall', 'density', 'coverage', 'fld', 'fldGap'];

describe('features of a classifier', () => {
  it('give all figures with intervals and floors; it is trained once', async () => {
    const seen: string[] = [];
    const onEvent = (event: { type: string; what?: string }) => seen.push(event.what ?? event.type);
    const [report] = await evaluate({ run, features: 'classifier' }, { onEvent });
    expect(seen).toContain('training a classifier for features');
    expect(Object.keys(report.metrics)).toEqual([
      ...['heldOutLoss', 'lossGap', 'slicedWasserstein', 'memorised'],
      ...FEATURE_FIGURES,
    ]);
    for (const name of FEATURE_FIGURES) {
      const { value, low, high, n, floor } = report.metrics[name as 'fd']!;
      for (const number of [value, low, high, floor]) expect(Number.isFinite(number), name).toBe(true);
      expect(low, name).toBeLessThanOrEqual(value);
      expect(high, name).toBeGreaterThanOrEqual(value);
      expect(n, name).toBe(40);
    }
    // Samples of a network that has learnt nothing are far from real ones.
    const { fd, kid, coverage } = report.metrics;
    expect(fd!.low).toBeGreaterThan(fd!.floor!);
    expect(kid!.low).toBeGreaterThan(kid!.floor!);
    expect(coverage!.high).toBeLessThan(coverage!.floor!);
    expect(report.features).toMatchObject({ kind: 'classes', dim: 128 });
    expect(report.features!.accuracy).toBeGreaterThan(1 / 7);
    expect(report.warnings.join()).toContain('rank-deficient');
    expect(evaluationTable([report])).toContain('FD (classifier)');
    expect(await readdir(run)).not.toContain('evaluation');

    seen.length = 0;
    const [again] = await evaluate({ run, features: 'classifier', metrics: ['kid'] }, { onEvent });
    expect(seen).not.toContain('training a classifier for features');
    expect(again.metrics.kid).toEqual(report.metrics.kid);
    expect(again.features).toEqual(report.features);
  });

  it('goes on where it was stopped', async () => {
    const controller = new AbortController();
    const stopAt = (what: string) => (event: { type: string; what?: string; done?: number }) => {
      if (event.what === what && event.done) controller.abort();
    };
    const given = { run, features: 'classifier', metrics: ['fd', 'kid'], batch: 16 } as const;
    const stopped = evaluate(
      { ...given, metrics: [...given.metrics] },
      { signal: controller.signal, onEvent: stopAt('features of real images') },
    );
    await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
    const what: string[] = [];
    const [report] = await evaluate(
      { ...given, metrics: [...given.metrics] },
      { onEvent: (event) => void what.push('what' in event ? event.what : '') },
    );
    expect(Object.keys(report.metrics)).toEqual(['fd', 'kid']);
    expect(what).not.toContain('features of samples');
  });

  it('are the same for images from anywhere, in a folder', async () => {
    await generate({ run, count: 40, steps: 1, out: join(dir, 'drawn') });
    const [report] = await evaluate({
      images: join(dir, 'drawn'),
      data: icons,
      features: 'classifier',
      metrics: ['fd', 'prdc'],
    });
    expect(Object.keys(report.metrics)).toEqual(['fd', ...FEATURE_FIGURES.slice(2, 6)]);
    // The whole set is labelled: another classifier than that of the run's 200 images.
    expect(report.features).toMatchObject({ kind: 'classes' });
  });

  it('need labels', async () => {
    const plain = join(dir, 'plain');
    await mkdir(plain);
    for (const k of [0, 1, 2])
      await writeFile(
        join(plain, `${k}.png`),
        await gridPng(new Uint8Array(3 * 256).fill(50 * k), [1, 3, 16, 16]),
      );
    const error = await refusal({ images: plain, data: plain, features: 'classifier' });
    expect(error.message).toContain('no labels');
  });
});

describe('reference statistics', () => {
  it('give the distance that the images give', async () => {
    const out = join(dir, 'icons.npz');
    const { code, stdout } = await runCli([
      'stats',
      icons,
      '--out',
      out,
      '--features',
      'classifier',
      '--threads',
      '1',
    ]);
    expect([code, stdout]).toEqual([0, `${out}: 1,244 images, 128 features of a classifier\n`]);
    const drawn = join(dir, 'drawn');
    const given = { images: drawn, features: 'classifier' as const, metrics: ['fd' as const] };
    const [direct] = await evaluate({ ...given, data: icons });
    const [byFile] = await evaluate({ ...given, trainData: icons, reference: out });
    expect(byFile.metrics.fd!.value / direct.metrics.fd!.value).toBeCloseTo(1, 9);
    expect(byFile.metrics.fd!.floor).toBe(null);
    const arrays = await readNpz(out);
    expect([...arrays.keys()]).toEqual(['mu', 'sigma', 'n', 'features']);
    expect([...arrays.get('n')!.data]).toEqual([1244]);
  });
});

describe('mistakes are told in one line', () => {
  it('with exit code 2 for wrong usage', async () => {
    for (const [flags, message] of [
      [['--metrics', 'fd'], '--metrics fd needs features'],
      [['--features', 'inception'], '--features inception needs the weights'],
      [['--features', 'classifier', '--inception-weights', 'x.pth'], 'belongs to --features inception'],
      [['--reference', 'x.npz'], '--reference needs features'],
      [['--features', 'classifier', '--reference', 'x.npz', '--metrics', 'kid'], 'is for --metrics fd'],
    ] as const) {
      const { code, stderr } = await runCli(['evaluate', '--run', run, ...flags]);
      expect([code, stderr]).toEqual([2, expect.stringContaining(message)]);
      expect(stderr.trim().split('\n')).toHaveLength(1);
    }
  });

  it('weights of another network, or that are not there', async () => {
    const file = join(dir, 'other.safetensors');
    await writeSafetensors(file, [['a.weight', torch.ones([2, 2])]]);
    const error = await refusal({ run, inceptionWeights: file, metrics: ['fd'] });
    expect([error.code, error.message]).toEqual([
      'NOT_INCEPTION',
      expect.stringContaining(`${file} does not hold`),
    ]);
    expect((await refusal({ run, inceptionWeights: join(dir, 'no.pth'), metrics: ['fd'] })).code).toBe(
      'BAD_TENSOR_FILE',
    );
    const text = join(dir, 'text.pth');
    await writeFile(text, 'not weights at all, but text');
    expect((await refusal({ run, inceptionWeights: text, metrics: ['fd'] })).exitCode).toBe(1);
  });

  it('a reference of other features, or something else', async () => {
    const reference = join(dir, 'text.npz');
    await writeFile(reference, 'no npz');
    const given = { run, features: 'classifier' as const, metrics: ['fd' as const] };
    expect((await refusal({ ...given, reference })).code).toBe('NPZ_UNREADABLE');
    const few = join(dir, 'few.npz');
    const [one, square] = [Float64Array.of(1, 2), Float64Array.of(1, 0, 0, 1)];
    await writeNpz(few, { mu: { shape: [2], data: one }, sigma: { shape: [2, 2], data: square } });
    expect((await refusal({ ...given, reference: few })).message).toContain('statistics of 2 features');
    // That of all icons, and not of the run's 200.
    const error = await refusal({ ...given, reference: join(dir, 'icons.npz') });
    expect([error.code, error.message]).toEqual([
      'OTHER_FEATURES',
      expect.stringContaining('another classifier'),
    ]);
  });

  it('statistics of nothing, over a file that is there, or with another ending', async () => {
    for (const [args, code, message] of [
      [[], 2, 'say which images'],
      [[icons], 2, 'say which file to write'],
      [[icons, '--out', 'x.zip'], 2, 'written as .npz'],
      [[icons, '--out', 'x.npz'], 2, 'say of which features'],
      [[icons, '--out', join(dir, 'icons.npz'), '--features', 'classifier'], 1, 'already there'],
      [['/nowhere', '--out', join(dir, 'x.npz'), '--features', 'classifier'], 1, '/nowhere'],
    ] as const) {
      const outcome = await runCli(['stats', ...args]);
      expect([outcome.code, outcome.stderr]).toEqual([code, expect.stringContaining(message)]);
    }
    expect(await readdir(dir)).not.toContain('x.npz');
  });
});
