/**
 * The library: train, sample, prepare. Options are checked as on the command line; errors that a person can fix
 * are {@link UserError}s.
 *
 *     import { generate, train } from 'patch-diffusion';
 *     const { runDir } = await train({ data: 'photos-64.zip', preset: 'small' });
 *     await generate({ run: runDir, count: 64, grid: 'sheet.png' });
 */

import { type AvatarOptionsInput, resolveAvatarOptions } from './config/avatar-options.js';
import { type EvaluateOptionsInput, resolveEvaluateOptions } from './config/evaluate-options.js';
import { type GenerateOptionsInput, resolveGenerateOptions } from './config/generate-options.js';
import { type PrepareOptionsInput, resolvePrepareOptions } from './config/prepare-options.js';
import type { TrainOptionsInput } from './config/train-options.js';
import type { Progress } from './data/types.js';
import type { EvaluationContext } from './evaluation/events.js';
import type { EvaluationReport } from './evaluation/report.js';
import type { AvatarReport } from './prepare/avatars.js';
import type { PrepareReport } from './prepare/prepare.js';
import type { GenerateEvent, GenerateResult } from './sampling/generate.js';
import type { TrainContext, TrainResult } from './training/loop.js';

/**
 * Trains a model and writes a run folder.
 *
 * @param options any options of the `train` command, camelCase; `preset` gives the rest, but for `precision`, which is
 *   `fp32` unless given
 * @param context a signal that stops the run with its state saved, and a listener
 * @throws {UserError} for what the user can fix; the state on disk stays usable
 * @example
 * ```ts
 * const { runDir } = await train({ data: 'photos.zip', preset: 'tiny', durationKimg: 0.1, out: 'runs' });
 * ```
 */
export async function train(
  options: TrainOptionsInput & ({ readonly data: string } | { readonly resume: string }),
  context: TrainContext = {},
): Promise<TrainResult> {
  const { resolveRunOptions } = await import('./training/resume.js');
  const loop = await import('./training/loop.js');
  // A library's results do not depend on the machine unless asked to; a resumed run keeps what it recorded.
  const precision = options.resume === undefined ? { precision: 'fp32' as const } : {};
  const resolved = await resolveRunOptions({ call: { ...precision, ...options } });
  if (resolved.evalTicks === null) return loop.train(resolved, context);
  const { evaluatorFor } = await import('./evaluation/while-training.js');
  return loop.train(resolved, { evaluator: evaluatorFor(resolved), ...context });
}

/**
 * Draws images from a run or snapshot and writes them as PNG files and/or one sheet.
 *
 * @param options any options of the `generate` command, camelCase
 * @throws {UserError} for what the user can fix
 * @example
 * ```ts
 * const { files } = await generate({ run: 'runs/00000-photos', count: 4, steps: 4, out: 'generated' });
 * ```
 */
export async function generate(
  options: GenerateOptionsInput,
  context: { signal?: AbortSignal; onEvent?: (event: GenerateEvent) => void } = {},
): Promise<GenerateResult> {
  const module = await import('./sampling/generate.js');
  return module.generate(resolveGenerateOptions({ call: options }), context);
}

/**
 * Measures how good runs, snapshots or folders of images are.
 *
 * @param options any options of the `evaluate` command, camelCase
 * @returns a report for each run, snapshot or folder, in the order in which they were given
 * @throws {UserError} for what the user can fix; finished figures are kept, and the same call continues from them
 * @example
 * ```ts
 * const [report] = await evaluate({ run: 'runs/00000-photos', trainData: 'photos.zip', count: 8, steps: 4 });
 * console.log(report.metrics.trainingLoss?.value, report.metrics.slicedWasserstein?.low);
 * ```
 */
export async function evaluate(
  options: EvaluateOptionsInput,
  context: EvaluationContext = {},
): Promise<EvaluationReport[]> {
  const module = await import('./evaluation/evaluate.js');
  return module.evaluateAll(resolveEvaluateOptions({ call: options }), context);
}

/**
 * Turns images into training images of one size, or into latents.
 *
 * @param options any options of the `prepare` command, camelCase
 * @throws {UserError} for what the user can fix; nothing is left behind then
 * @example
 * ```ts
 * const { used } = await prepare({ source: 'photos', out: 'photos-64.zip', resolution: 64 });
 * ```
 */
export async function prepare(
  options: PrepareOptionsInput,
  context: { signal?: AbortSignal; onProgress?: Progress } = {},
): Promise<PrepareReport> {
  const module = await import('./prepare/prepare.js');
  return module.prepare(resolvePrepareOptions({ call: options }), context);
}

/**
 * Draws faces from seeds, as many as you like, as a prepared dataset to train on or to measure with.
 *
 * @param options any options of the `avatars` command, camelCase
 * @throws {UserError} for what the user can fix; nothing is left behind then
 * @example
 * ```ts
 * const { sidePx } = await avatars({ out: 'faces.zip', count: 16 });
 * const set = await openImages('faces.zip');
 * console.log(set.length, sidePx); // 16 16
 * await set.close();
 * ```
 */
export async function avatars(
  options: AvatarOptionsInput,
  context: { signal?: AbortSignal; onProgress?: Progress } = {},
): Promise<AvatarReport> {
  const module = await import('./prepare/avatars.js');
  return module.writeAvatars(resolveAvatarOptions({ call: options }), context);
}

export { UserError } from './common/errors.js';
export { version } from './common/version.js';
export type { AvatarOptions, AvatarOptionsInput } from './config/avatar-options.js';
export type { EvaluateOptions, EvaluateOptionsInput, Metric } from './config/evaluate-options.js';
export {
  type GenerateOptions,
  type GenerateOptionsInput,
  generateDefaults,
} from './config/generate-options.js';
export type { PrepareOptions, PrepareOptionsInput } from './config/prepare-options.js';
export { type PresetName, presetNames, presets } from './config/presets.js';
export { resolveTrainOptions, validateAgainstData } from './config/resolve.js';
export type { TrainOptions, TrainOptionsInput } from './config/train-options.js';
export { type LatentSet, type OpenLatentsOptions, openLatents } from './data/latents.js';
export { openImages } from './data/open-images.js';
export type { OpenImagesOptions } from './data/plan-images.js';
export { labelledSheetPng, type SheetRow } from './data/sheet.js';
export type { DataSet, ImageSet, LatentInfo } from './data/types.js';
export { holdOut } from './data/views.js';
export type { Guidance } from './diffusion/guidance.js';
export type { Label } from './diffusion/labels.js';
export type { PrecondSpec } from './diffusion/precond-spec.js';
export { createDenoiser, Denoiser } from './diffusion/preconditioning.js';
export { type SampleOptions, sampleImages, toUint8 } from './diffusion/sample.js';
export type { SamplerName, SamplerOptions } from './diffusion/samplers/index.js';
export type { EvaluationContext, EvaluationEvent } from './evaluation/events.js';
export type { FeatureRecord } from './evaluation/features/detector.js';
export type { Figure } from './evaluation/figure.js';
export type { Nearest } from './evaluation/memorisation.js';
export type { EvaluationReport, FigureName, LossCurves } from './evaluation/report.js';
export { type ExportOptions, type ExportResult, exportSnapshot } from './interchange/export.js';
export { type ImportResult, importCheckpoint } from './interchange/import.js';
export { type LoadedSnapshot, type LoadOptions, loadAnySnapshot } from './interchange/load-snapshot.js';
export type { OnnxDecoderInfo, OnnxDenoiserInfo } from './interchange/onnx/metadata.js';
export type { OnnxOptions, OnnxPrecision } from './interchange/onnx/options.js';
export { loadSnapshot } from './interchange/snapshot.js';
export { loadAutoencoder, saveAutoencoder } from './latents/autoencoder-folder.js';
export { LatentDecoder } from './latents/latents.js';
export {
  type AutoencoderConfig,
  AutoencoderKL,
  STABLE_DIFFUSION_AUTOENCODER,
} from './networks/autoencoder-kl.js';
export type { AvatarReport } from './prepare/avatars.js';
export { type DemoOptions, demoImages } from './prepare/demo-images.js';
export type { PrepareReport } from './prepare/prepare.js';
export { listRuns, newestSnapshot, newestState, type RunJson, readRunJson } from './run/runs.js';
export { readSnapshotInfo, type SnapshotInfo } from './run/snapshot-info.js';
export type { GenerateEvent, GenerateResult } from './sampling/generate.js';
export type { TrainEvent, TrainEventListener } from './training/events.js';
export type { TrainContext, TrainResult } from './training/loop.js';
