/** `evaluate` on a run of seconds: figures, held-out images by content, going on after an interruption, mistakes. */
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { beforeAll, describe, expect, it } from 'vitest';
import { openImages } from '../../src/data/open-images.js';
import { gridPng } from '../../src/data/sheet.js';
import { evaluationTable } from '../../src/evaluation/table.js';
import { generate, train } from '../../src/index.js';
import { loadSnapshot, writeSnapshot } from '../../src/interchange/snapshot.js';
import { fileStamp } from '../../src/run/file-names.js';
import { newestSnapshot } from '../../src/run/runs.js';
import { evaluating } from '../helpers/evaluating.js';
import { whole } from '../helpers/images.js';
import { iconSet, runCli, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir = '';
let icons = '';
let run = '';
const { evaluate, refusal } = evaluating({ count: 6, steps: 2, lossImages: 8, threads: 1, device: 'cpu' });

beforeAll(async () => {
  dir = await temporaryFolder();
  process.env.PATCH_DIFFUSION_CACHE = join(dir, 'cache');
  icons = await iconSet(dir);
  run = join(dir, 'runs/first');
  await train({ ...tinyOptions, data: icons, out: run, holdout: 16, durationKimg: 0.064 });
});

describe('a run', () => {
  it('is judged by its held-out images; figures, table, plots, JSON and a line in the run', async () => {
    const files = { json: join(dir, 'out/figures.json'), plots: join(dir, 'out/plots.png') };
    const [report] = await evaluate({ run, ...files });
    expect(report.data).toMatchObject({ images: 16, isHeldOut: true, trainingImages: 48, real: 'held-out' });
    expect(Object.keys(report.metrics)).toEqual(['heldOutLoss', 'lossGap', 'slicedWasserstein', 'memorised']);
    for (const { value, low, high, n } of Object.values(report.metrics)) {
      expect(low).toBeLessThanOrEqual(value);
      expect(high).toBeGreaterThanOrEqual(value);
      expect(n).toBeGreaterThan(0);
    }
    expect(report.metrics.heldOutLoss).toMatchObject({ n: 8, floor: null });
    expect(report.metrics.slicedWasserstein?.floor).toBeGreaterThan(0);
    expect(report.samples).toEqual({ count: 6, firstSeed: 0, lastSeed: 5, steps: 2 });
    expect(Object.keys(report.curves?.patches ?? {})).toEqual(['4', '8']);
    expect(evaluationTable([report])).toMatch(/held-out loss +\d\.\d+ \[\d\.\d+, \d\.\d+\] {2}n 8/);
    const json = JSON.parse(await readFile(files.json, 'utf8'));
    expect(json).toEqual({ format: 1, results: [JSON.parse(JSON.stringify(report))] });
    expect((await readdir(join(dir, 'out'))).sort()).toEqual([
      'figures.json',
      'plots-nearest.png',
      'plots.png',
    ]);
    const lines = (await readFile(join(run, 'evaluations.jsonl'), 'utf8')).trim().split('\n');
    expect(JSON.parse(lines[0])).toEqual(json.results[0]);
    expect(await readdir(run)).not.toContain('evaluation');
    const nearest = await readFile(join(run, 'nearest', `nearest-${fileStamp(report.nimg!)}.png`));
    expect(nearest.equals(await readFile(join(dir, 'out/plots-nearest.png')))).toBe(true);
  });

  it('goes on where it was stopped, to the same figures', async () => {
    const [expected] = await evaluate({ run });
    const controller = new AbortController();
    const stopAt = (what: string) => (event: { type: string; what?: string; done?: number }) => {
      if (event.what === what && event.done) controller.abort();
    };
    const stopped = evaluate(
      { run, batch: 2 },
      { signal: controller.signal, onEvent: stopAt('drawing samples') },
    );
    await expect(stopped).rejects.toMatchObject({ name: 'AbortError' });
    const drawing: number[] = [];
    const [report] = await evaluate(
      { run, batch: 2 },
      {
        onEvent: (event: { type: string; what?: string; done?: number }) => {
          expect(event.what).not.toBe('measuring the loss');
          if (event.what === 'drawing samples') drawing.push(event.done!);
        },
      },
    );
    expect(drawing[0]).toBeGreaterThan(0);
    for (const [name, figure] of Object.entries(expected.metrics))
      expect(report.metrics[name as 'heldOutLoss']?.value).toBeCloseTo(figure.value, 6);
    expect(await readdir(run)).not.toContain('evaluation');
  });

  it('and other images: training images among them are left out, mirrored ones too', async () => {
    const data = join(dir, 'mixed');
    await mkdir(data);
    const set = await openImages(icons, { maxImages: 80, seed: 0, xflip: true });
    // The run's 64 images are among all 1,244; here are some of the whole set, as they are and mirrored.
    for (const index of [0, 1, 2, 3, 80, 81]) {
      const pixels = await whole(set, [index]);
      await writeFile(join(data, `${index}.png`), await gridPng(pixels, [1, set.channels, 16, 16]));
    }
    await set.close();
    const training = await openImages(icons, { maxImages: 64, seed: 7 });
    const copy = await whole(training, [0]);
    await training.close();
    await writeFile(join(data, 'copy.png'), await gridPng(copy, [1, set.channels, 16, 16]));
    const [all] = await evaluate({ run, data, metrics: ['loss'] });
    expect(all.data!.isHeldOut).toBe(true);
    expect(all.data!.images).toBeLessThan(7);
    expect(all.metrics.heldOutLoss!.n).toBe(all.data!.images);
  });
});

describe('images', () => {
  it('are compared with data without a model', async () => {
    const { files } = await generate({ run, count: 6, steps: 2, out: join(dir, 'drawn') });
    expect(files).toHaveLength(6);
    const [report] = await evaluate({ images: join(dir, 'drawn'), data: icons });
    expect(Object.keys(report.metrics)).toEqual(['slicedWasserstein', 'memorised']);
    expect(report).toMatchObject({ kind: 'images', snapshot: null, nimg: null });
    // The same samples, drawn by the evaluation.
    const [drawn] = await evaluate({ run, trainData: icons, data: icons, metrics: ['memorisation'] });
    expect(drawn.samples?.count).toBe(6);
  });

  it('of the training set are copies', async () => {
    const set = await openImages(icons, { maxImages: 4 });
    await mkdir(join(dir, 'copies'));
    for (const index of [0, 1, 2, 3])
      await writeFile(
        join(dir, 'copies', `${index}.png`),
        await gridPng(await whole(set, [index]), [1, set.channels, 16, 16]),
      );
    await set.close();
    const warnings: string[] = [];
    const [report] = await evaluate(
      { images: join(dir, 'copies'), data: icons, metrics: ['memorisation'] },
      {
        onEvent: (event: { type: string; message?: string }) =>
          event.type === 'warning' && warnings.push(event.message!),
      },
    );
    expect(report.metrics.memorised).toMatchObject({ value: 1, low: 1, high: 1, n: 4 });
    expect(warnings.join()).toContain('100.0 % of the samples are near copies of training images (4 exact)');
    expect(report.warnings).toEqual(warnings);
  });
});

describe('side by side', () => {
  it('runs and folders stand in one table', async () => {
    const second = join(dir, 'runs/second');
    await cp(run, second, { recursive: true });
    const reports = await evaluate({
      compare: [run, second],
      metrics: ['loss'],
      plots: join(dir, 'both.png'),
    });
    expect(reports.map(({ name }) => name)).toEqual(['first', 'second']);
    expect(reports[0].metrics).toEqual(reports[1].metrics);
    expect(evaluationTable(reports).split('\n')[0]).toMatch(/first +second/);
  });
});

describe('mistakes are told in one line', () => {
  it('with exit code 2 for wrong usage', async () => {
    const outcome = await runCli(['evaluate']);
    expect(outcome.code).toBe(2);
    expect(outcome.stderr).toBe(
      'error: say what to evaluate: --run RUN_FOLDER, --network SNAPSHOT, or --images FOLDER\n',
    );
    const wrong = await runCli(['evaluate', '--run', run, '--metrics', 'los']);
    expect([wrong.code, wrong.stderr]).toEqual([
      2,
      expect.stringContaining('--metrics: "los" is not allowed; use some of loss, swd'),
    ]);
  });

  it.each([
    ['a missing folder', { compare: ['/nowhere'] }, 'NOTHING_TO_EVALUATE'],
    ['a missing run', { run: '/nowhere' }, 'NO_SNAPSHOT'],
    ['data that is not there', { data: '/nowhere' }, 'DATA_NOT_FOUND'],
    ['training data that is not there', { trainData: '/nowhere' }, 'DATA_NOT_FOUND'],
  ])('%s', async (_, given, code) => {
    const isSubject = 'run' in given || 'compare' in given;
    expect((await refusal({ ...(isSubject ? {} : { run }), ...given })).code).toBe(code);
  });

  it('a network that has diverged', async () => {
    const { denoiser, info } = await loadSnapshot((await newestSnapshot(run))!);
    torch.noGrad(() => denoiser.parameters()[0].fill_(Number.NaN));
    const network = join(dir, 'diverged.safetensors');
    await writeSnapshot(network, denoiser, info);
    denoiser.dispose();
    const error = await refusal({ network, data: icons, metrics: ['swd'] });
    expect([error.code, error.exitCode]).toEqual(['NAN_SAMPLES', 1]);
    expect(error.message).toMatch(
      /^the network draws NaN or infinite values \(seeds 0 to 5\); .* use an earlier snapshot$/,
    );
  });

  it('a single image, the loss of images, and images of another size', async () => {
    await mkdir(join(dir, 'one'));
    await writeFile(join(dir, 'one/a.png'), await gridPng(new Uint8Array(3 * 64), [1, 3, 8, 8]));
    expect((await refusal({ images: join(dir, 'one'), data: icons })).message).toContain('give at least 2');
    const error = await refusal({ images: join(dir, 'drawn'), data: icons, metrics: ['loss'] });
    expect([error.code, error.exitCode]).toEqual(['NO_MODEL', 2]);
  });
});
