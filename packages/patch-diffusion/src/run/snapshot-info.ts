/** What a network snapshot says of itself. Reading it needs no libtorch; the weights are read in `interchange`. */
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import { type TrainOptions, trainFields } from '../config/train-options.js';
import type { LatentInfo } from '../data/types.js';
import type { Label } from '../diffusion/labels.js';
import type { LossSpec } from '../diffusion/losses.js';
import { checkPrecondSpec, lossSchema } from '../diffusion/precond-schema.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { EDM_DEFAULTS } from '../diffusion/samplers/edm.js';
import type { RecordedSampling } from '../diffusion/samplers/index.js';
import {
  checkFields,
  checkFormatVersion,
  readMetadata,
  readTensorHeader,
} from '../formats/file-description.js';

/** Version of the layout of {@link SnapshotInfo}. */
export const SNAPSHOT_VERSION = 1;

/** What is recorded of the training data. */
export interface DatasetRecord {
  readonly name: string;
  readonly classNames: readonly string[] | null;
  /** The classes that have images, where some have none, or label vectors of images; they are what samples are drawn from. */
  readonly labels?: readonly Label[] | null;
}

/** JSON in the file's metadata. */
export interface SnapshotInfo {
  readonly kind: 'snapshot';
  readonly formatVersion: number;
  readonly precond: PrecondSpec;
  readonly loss: LossSpec;
  /** Options of the training run; null for a network that another program trained. */
  readonly train: TrainOptions | null;
  readonly dataset: DatasetRecord;
  /** How the latents become images, where the network was trained on latents. */
  readonly latents?: LatentInfo | null;
  /** Images trained on, as the paper counts them. */
  readonly nimg: number;
  /** Optimiser updates. */
  readonly step: number;
}

/** How a network is sampled unless told otherwise; networks of other programs, as EDM's generator does. */
export function recordedSampling({ train }: Pick<SnapshotInfo, 'train'>): RecordedSampling {
  return {
    sampler: train?.sampler ?? 'edm', // older runs recorded none
    numSteps: train?.sampleSteps ?? EDM_DEFAULTS.numSteps,
    sChurn: train?.sampleChurn ?? EDM_DEFAULTS.sChurn,
  };
}

const labelsSchema = z.union([z.array(z.int().min(0)).min(1), z.array(z.array(z.number()).min(1)).min(1)]);

const { preset, data, sampler, sampleSteps, sampleChurn, autoencoder } = trainFields;
/** Of the training options, those that are used after training. Older files may lack some. */
const trainSchema = z.looseObject({
  preset: preset.schema.optional(),
  data: data.schema.optional(),
  sampler: sampler.schema.optional(),
  sampleSteps: sampleSteps.schema.optional(),
  sampleChurn: sampleChurn.schema.optional(),
  autoencoder: autoencoder.schema.optional(),
});

const schema = z.looseObject({
  kind: z.literal('snapshot'),
  formatVersion: z.number(),
  precond: z.unknown(),
  loss: lossSchema,
  train: trainSchema.nullable(),
  dataset: z.looseObject({
    ...{ name: z.string(), classNames: z.array(z.string()).nullable(), labels: labelsSchema.nullish() },
  }),
  latents: z
    .object({
      autoencoder: z.object({ path: z.string(), sha256: z.string() }),
      ...{ scale: z.number().positive(), shift: z.number(), downFactor: z.int().min(1).max(64) },
    })
    .nullish(),
  nimg: z.number().min(0),
  step: z.number().min(0),
});

/**
 * Reads the description of a snapshot without its weights.
 * @throws UserError when the file is truncated, or is something else
 * @example
 * ```ts
 * const snapshot = await newestSnapshot('runs/00000-photos');
 * const { precond, dataset } = await readSnapshotInfo(snapshot ?? '');
 * console.log(dataset.name, precond.network.imgResolution);
 * ```
 */
export async function readSnapshotInfo(file: string): Promise<SnapshotInfo> {
  return snapshotInfo(readTensorHeader(file), file);
}

/** The description in a file's header. @throws UserError when it is that of something else */
export function snapshotInfo(
  header: { readonly metadata: Readonly<Record<string, string>> },
  file: string,
): SnapshotInfo {
  const info = readMetadata(header, file);
  checkFormatVersion(info, SNAPSHOT_VERSION, file);
  const { kind } = info as { kind?: unknown };
  if (kind === 'snapshot') {
    const checked = checkFields(schema, info, `${file}: the description's field`);
    const precond = checkPrecondSpec(checked.precond, file);
    const result = { ...(checked as unknown as SnapshotInfo), precond };
    checkLabels(result, file);
    return result;
  }
  const what = kind === 'training-state' ? 'is a training state' : 'is not a snapshot of this program';
  throw new UserError(
    'NOT_A_SNAPSHOT',
    `${file} ${what}; name a file from a run's snapshots/ folder, or the run folder`,
  );
}

/** @throws UserError when recorded labels are not of the form that the network takes */
function checkLabels({ precond, dataset: { labels } }: SnapshotInfo, file: string): void {
  const { labelDim = 0 } = precond.network;
  const isWrong = (label: Label) =>
    typeof label === 'number' ? label >= labelDim : label.length !== labelDim;
  const wrong = labels?.find(isWrong);
  if (wrong === undefined) return;
  throw new UserError(
    'BAD_SNAPSHOT',
    `${file}: its description is damaged: the label ${JSON.stringify(wrong)} does not fit a network with labelDim ${labelDim}; use another file`,
  );
}
