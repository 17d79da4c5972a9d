/** Evaluates runs, snapshots and folders of images, one after the other. */
import { access, appendFile, constants, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { UserError, usageError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { withMemoryGuard } from '../common/memory.js';
import { withoutSecrets } from '../common/secrets.js';
import { sha256Of } from '../common/sha256.js';
import { type EvaluateOptions, type Metric, metricsOf } from '../config/evaluate-options.js';
import { compareOptions } from '../config/same-options.js';
import { dismiss } from '../distributed/crew.js';
import { setThreads } from '../distributed/machine.js';
import { cacheFolder } from '../formats/hub/cache.js';
import { EVALUATIONS } from '../run/evaluations.js';
import { fileStamp } from '../run/file-names.js';
import { NEAREST_FOLDER } from '../run/runs.js';
import { avatarMetric, isAvatarSize } from './avatars/metric.js';
import { type Bench, trainingPixels } from './bench.js';
import { lossMetric, memorisationMetric, swdMetric } from './core-metrics.js';
import type { EvaluationContext } from './events.js';
import { fdMetric, fldMetric, kidMetric, prdcMetric } from './feature-metrics.js';
import type { Features } from './features/feature-set.js';
import { ImageFeatures } from './features/features.js';
import type { Nearest } from './memorisation.js';
import { nearestSheet } from './nearest-sheet.js';
import { openPixels, type Pixels } from './pixels.js';
import { plotsPng } from './plots.js';
import { openReals, openRealsForImages, type Reals } from './reals.js';
import type { EvaluationReport, Measured } from './report.js';
import { drawSamples, helpDrawing, samplerOf, seedsOf } from './samples.js';
import { disposeModel, type Model, openModel, type Subject, subjectsOf } from './subject.js';
import { WorkFolder } from './work-folder.js';

/** Options that are about a rank's own machine, or that only the first one acts on. */
const OWN_OPTIONS = ['device', 'threads', 'autoencoder', 'json', 'plots'] as const;

/** How each metric is measured. */
const STAGES: Record<Metric, (bench: Bench) => Promise<Measured>> = {
  loss: lossMetric,
  swd: swdMetric,
  memorisation: memorisationMetric,
  avatars: avatarMetric,
  fd: fdMetric,
  kid: kidMetric,
  prdc: prdcMetric,
  fld: fldMetric,
};

/**
 * Evaluates everything that the options name.
 * @returns a report for each run, snapshot or folder, in the order of the options
 * @throws UserError for what the user can fix; finished figures are kept for the same call
 */
export async function evaluateAll(
  options: EvaluateOptions,
  context: EvaluationContext = {},
): Promise<EvaluationReport[]> {
  const { ranks = null } = context;
  setThreads(options.threads, ranks);
  if (ranks) {
    await compareOptions(ranks, options, OWN_OPTIONS);
    if (!ranks.isWriter) {
      await helpDrawing(options, context);
      return [];
    }
  }
  const { json, plots } = options;
  await checkOutputs({ json, plots });
  const reports: EvaluationReport[] = [];
  for (const subject of await subjectsOf(options)) {
    const sheet = plots === null ? null : nearestFile(plots, reports.length);
    const report = () => evaluateOne(subject, options, sheet, context);
    reports.push(await withMemoryGuard('lower --batch or --count', report));
  }
  await dismiss(ranks);
  if (json !== null) {
    const text = `${JSON.stringify({ format: 1, results: reports }, null, 2)}\n`;
    await guarded(`write ${json}`, () => writeFileAtomic(json, text));
  }
  if (plots !== null) {
    const png = await plotsPng(reports);
    await guarded(`write ${plots}`, () => writeFileAtomic(plots, png));
  }
  return reports;
}

/** Makes the folders of the files and tries them before anything is measured. */
async function checkOutputs(files: Readonly<Record<string, string | null>>): Promise<void> {
  for (const [option, file] of Object.entries(files)) {
    if (file === null) continue;
    if ((await stat(file).catch(() => null))?.isDirectory())
      throw usageError('BAD_OPTION', `--${option} ${file} is a folder; name a file in it`);
    await guarded(`write ${file}`, async () => {
      makeFolder(dirname(file));
      await access(dirname(file), constants.W_OK);
    });
  }
}

/** `plots.png` → `plots-nearest.png`, `plots-nearest-2.png`, … */
function nearestFile(plots: string, index: number): string {
  return `${plots.replace(/\.png$/i, '')}-nearest${index === 0 ? '' : `-${index + 1}`}.png`;
}

/** Collects warnings, each once, and passes them on. */
function collectWarnings({ onEvent }: EvaluationContext): {
  warnings: string[];
  warn: (message: string) => void;
} {
  const warnings: string[] = [];
  const warn = (message: string) => {
    if (warnings.includes(message)) return;
    warnings.push(message);
    onEvent?.({ type: 'warning', message });
  };
  return { warnings, warn };
}

async function evaluateOne(
  subject: Subject,
  options: EvaluateOptions,
  sheet: string | null,
  context: EvaluationContext,
): Promise<EvaluationReport> {
  const said = collectWarnings(context);
  const own = { ...context, warn: said.warn };
  const cleanUp: (() => Promise<void> | void)[] = [];
  try {
    let model: Model | null = null;
    let images: Pixels | null = null;
    let reals: Reals | null;
    if (subject.kind === 'images') {
      const opened = await openImagesOf(subject, options, own);
      images = opened;
      cleanUp.push(() => opened.close());
      reals = await openRealsForImages(opened, options, own);
    } else {
      const opened = await openModel(subject, options, context);
      model = opened;
      cleanUp.push(() => disposeModel(opened));
      reals = await realsOf(opened, options, own);
    }
    const close = reals?.close;
    if (close) cleanUp.push(close);
    const work = await WorkFolder.open(workParent(subject), await keyOf(subject, model, reals, options));
    return await measureAll({ subject, options, model, images, reals, work, context, said, sheet }, true);
  } finally {
    for (const work of cleanUp.reverse()) await work();
  }
}

/**
 * Evaluates a network and images that are open, and stay so. Nothing is kept of an evaluation that is stopped.
 * @throws UserError for what the user can fix
 */
export async function evaluateOpen(
  subject: Subject,
  options: EvaluateOptions,
  model: Model,
  reals: Reals,
  context: EvaluationContext,
): Promise<EvaluationReport> {
  const work = await WorkFolder.open(workParent(subject), await keyOf(subject, model, reals, options));
  const said = collectWarnings(context);
  const given = { subject, options, model, images: null, reals, work, context, said, sheet: null };
  return withMemoryGuard('lower --batch-gpu or --eval-count', () => measureAll(given, false));
}

/** What is measured, and on what. */
interface Opened extends Omit<Bench, 'samples' | 'features' | 'warn'> {
  /** Images in place of samples. */
  readonly images: Pixels | null;
  readonly said: ReturnType<typeof collectWarnings>;
  /** Where the nearest training images are drawn. */
  readonly sheet: string | null;
}

/** Measures, records and, when all is done, closes the work folder. */
async function measureAll(
  { images, said, sheet, ...opened }: Opened,
  keepsUnfinished: boolean,
): Promise<EvaluationReport> {
  const begin = performance.now();
  const { subject, options, model, reals, work, context } = opened;
  const { warn, warnings } = said;
  let drawn: Pixels | null = null;
  let features: Features | null = null;
  let isComplete = false;
  const bench: Bench = {
    ...{ ...opened, warn },
    samples: async () => {
      drawn ??= images ?? (await drawFor(bench));
      return drawn;
    },
    features: async () => (features ??= await ImageFeatures.open(bench)),
  };
  try {
    let measured: Measured = { metrics: {} };
    for (const metric of applicable(bench)) {
      context.signal?.throwIfAborted();
      const found = await finish(metric, bench, warnings);
      measured = { ...measured, ...found, metrics: { ...measured.metrics, ...found.metrics } };
    }
    for (const file of [sheet, nearestInRun(subject, model)])
      if (file !== null && measured.nearest) await writeNearest(file, measured.nearest, bench);
    const report: EvaluationReport = {
      ...head(subject, model, reals, options, drawn ?? images),
      ...measured,
      features: measured.features ?? null,
      warnings,
      at: new Date().toISOString(),
      seconds: (performance.now() - begin) / 1000,
    };
    await record(subject, report);
    isComplete = true;
    return report;
  } finally {
    await (features as Features | null)?.close();
    if (drawn !== images) await (drawn as Pixels | null)?.close();
    await work.close(isComplete || !keepsUnfinished);
  }
}

/** Draws the samples of a network. */
function drawFor({ options, model, work, context, subject }: Bench): Promise<Pixels> {
  const { batch, steps } = options;
  const { signal, onEvent, ranks } = context;
  const { path } = subject;
  return drawSamples(model!, { path, seeds: seedsOf(options), batch, steps }, work.path, {
    ...{ signal, ranks: ranks ?? null },
    onProgress: (done, total) =>
      onEvent?.({ type: 'progress', subject: subject.name, what: 'drawing samples', done, total }),
  });
}

/** Where a run keeps the sheet of its nearest training images; null for what is no run. */
function nearestInRun({ kind, path }: Subject, model: Model | null): string | null {
  if (kind !== 'run' || model === null) return null;
  return join(path, NEAREST_FOLDER, `nearest-${fileStamp(model.info.nimg)}.png`);
}

async function writeNearest(file: string, nearest: readonly Nearest[], bench: Bench): Promise<void> {
  const png = await nearestSheet(nearest, await bench.samples(), trainingPixels(bench)!);
  await guarded(`write ${file}`, async () => {
    makeFolder(dirname(file));
    await writeFileAtomic(file, png);
  });
}

/** Measures a metric, or takes what an interrupted evaluation has found. */
async function finish(metric: Metric, bench: Bench, warnings: readonly string[]): Promise<Measured> {
  const earlier = bench.work.finished(metric);
  if (earlier) {
    for (const message of earlier.warnings) bench.warn(message);
    return earlier.measured;
  }
  const before = warnings.length;
  const measured = await STAGES[metric](bench);
  await bench.work.record(metric, { measured, warnings: warnings.slice(before) });
  return measured;
}

/** The metrics that were asked for by name; of the others, those that can be measured. */
function applicable({ options, model, reals, warn }: Bench): Metric[] {
  const wanted = metricsOf(options);
  if (options.metrics !== null) return wanted;
  return wanted.filter((metric) => {
    switch (metric) {
      case 'loss':
        return model !== null && reals !== null;
      case 'memorisation':
        if (reals && !reals.training)
          warn('memorisation is left out: the training images are not known; name them with --train-data');
        return Boolean(reals?.training);
      case 'swd':
        return reals !== null;
      case 'avatars':
        return reals !== null && isAvatarSize(reals.judged);
      case 'fd':
        return options.features !== null && (reals !== null || options.reference !== null);
      case 'fld':
        return options.features !== null && Boolean(reals?.isHeldOut && reals.training);
      default:
        return options.features !== null && reals !== null;
    }
  });
}

/** The real images for a network; none are needed where reference statistics stand in for them. */
async function realsOf(
  model: Model,
  options: EvaluateOptions,
  context: EvaluationContext & { warn: (message: string) => void },
): Promise<Reals | null> {
  const { reference, metrics } = options;
  if (reference !== null && metrics?.every((metric) => metric === 'fd')) return null;
  try {
    return await openReals(model, options, context);
  } catch (error) {
    const isOptional =
      reference !== null && metrics === null && error instanceof UserError && error.code === 'NO_DATA';
    if (!isOptional) throw error;
    context.warn(`only the distance to the reference is measured: ${error.message}`);
    return null;
  }
}

async function openImagesOf(
  subject: Subject,
  { count }: EvaluateOptions,
  { warn, signal, onEvent }: EvaluationContext & { warn: (message: string) => void },
): Promise<Pixels> {
  const pixels = await openPixels(subject.path, {
    maxImages: count,
    signal,
    onProgress: (done, total) =>
      onEvent?.({ type: 'progress', subject: subject.name, what: 'looking at images', done, total }),
    onSkip: (skipped) =>
      warn(
        `${subject.path}: ${skipped.length} files are left out, such as ${skipped[0].file} (${skipped[0].reason})`,
      ),
  });
  if (pixels.count >= 2) return pixels;
  await pixels.close();
  throw new UserError('TOO_FEW_IMAGES', `${subject.path} has ${pixels.count} image; give at least 2`);
}

/** Beside the run, or in the user's cache. */
function workParent({ kind, path }: Subject): string {
  return kind === 'run' ? join(path, 'evaluation') : join(cacheFolder(), 'evaluation');
}

/** Everything that figures depend on. */
async function keyOf(
  subject: Subject,
  model: Model | null,
  reals: Reals | null,
  options: EvaluateOptions,
): Promise<unknown> {
  const { data, trainData, real, count, seeds, lossImages, steps, autoencoder, precision } = options;
  const { features, inceptionWeights, reference } = options;
  const changed = async (path: string | null) => {
    const info = path === null ? null : await stat(path).catch(() => null);
    return info && [info.size, info.mtimeMs];
  };
  return [
    1,
    model ? await sha256Of(model.file) : [subject.path, await changed(subject.path)],
    { data, trainData, real, count, seeds, lossImages, steps, autoencoder, precision },
    reals && [reals.judged.path, reals.judged.baseLength, reals.isHeldOut, reals.training?.baseLength],
    [await changed(reals?.judged.path ?? null)],
    { features, inceptionWeights, reference },
    [await changed(inceptionWeights), await changed(reference)],
  ];
}

function head(
  subject: Subject,
  model: Model | null,
  reals: Reals | null,
  options: EvaluateOptions,
  samples: Pixels | null,
): Omit<EvaluationReport, 'metrics' | 'features' | 'warnings' | 'at' | 'seconds'> {
  const seeds = model && samples ? seedsOf(options) : null;
  const isTraining = options.real === 'training' && reals?.training;
  return {
    format: 1,
    ...{ name: subject.name, kind: subject.kind, path: withoutSecrets(subject.path) },
    snapshot: model?.file ?? null,
    nimg: model?.info.nimg ?? null,
    step: model?.info.step ?? null,
    data: reals && {
      path: reals.judged.path,
      images: reals.judged.baseLength,
      isHeldOut: reals.isHeldOut,
      trainingImages: reals.training?.baseLength ?? null,
      real: isTraining ? 'training' : reals.isHeldOut ? 'held-out' : 'data',
    },
    samples: samples && {
      count: samples.count,
      firstSeed: seeds?.[0] ?? null,
      lastSeed: seeds?.at(-1) ?? null,
      steps: model && seeds ? samplerOf(model, options.steps).numSteps : null,
    },
  };
}

/** In a run, each evaluation is one line of `evaluations.jsonl`. */
async function record({ kind, path }: Subject, report: EvaluationReport): Promise<void> {
  if (kind !== 'run') return;
  const file = join(path, EVALUATIONS);
  await guarded(`write ${file}`, () => appendFile(file, `${JSON.stringify(report)}\n`));
}
