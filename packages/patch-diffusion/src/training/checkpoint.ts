/**
 * Complete training states: weights, average, optimiser moments, counters and the state of every random stream, in one
 * safetensors file. A run resumed from it gives the same result as one that was never interrupted.
 */
import type { Device, SafetensorsFile, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { writeSafetensors } from '@patch-diffusion/torch';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import type { Mt19937 } from '../common/mt19937.js';
import type { InfiniteSampler } from '../data/sampler.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { checkFields, checkFormatVersion, METADATA_KEY, readMetadata } from '../formats/file-description.js';
import { openTensorFile, tensorsUnder } from '../formats/tensor-file.js';
import { newTimeCounters, type TimeCounters } from './clock.js';
import { LEVEL_BINS } from './noise-histogram.js';
import type { PowerAverages } from './power-averages.js';
import type { Generators } from './random-streams.js';
import { specDifference } from './spec-difference.js';
import type { TrainingState } from './step.js';

const FORMAT_VERSION = 1;

/** Counters of the loop besides those of {@link TrainingState}. */
export interface LoopCounters extends TimeCounters {
  tick: number;
  /** Images trained on when the current tick began. */
  tickStartNimg: number;
}

export const newCounters = (): LoopCounters => ({ tick: 0, tickStartNimg: 0, ...newTimeCounters() });

/** Everything that the rest of a run depends on. */
export interface Resumable {
  readonly state: TrainingState;
  readonly counters: LoopCounters;
  readonly order: InfiniteSampler;
  readonly patchRandom: Mt19937;
  readonly generators: Generators;
  readonly device: Device;
}

/** What is written after the state at the same tick. */
export const LATER_OUTPUTS = ['snapshot', 'sample sheet'] as const;
export type LaterOutput = (typeof LATER_OUTPUTS)[number];

const count = z.int().min(0);
const seconds = z.number().min(0);
const timePlan = z.object({ limitSec: seconds, endSec: seconds }).nullable().default(null);
const infoSchema = z.looseObject({
  kind: z.literal('training-state'),
  formatVersion: z.number(),
  precond: z.unknown(),
  datasetLength: count,
  nimg: count,
  step: count,
  counters: z.object({
    tick: count,
    tickStartNimg: count,
    earlierSec: seconds,
    /** Absent in earlier states, as are the plans. */
    earlierCpuSec: seconds.default(0),
    plan: timePlan,
    cpuPlan: timePlan,
  }),
  orderMode: z.enum(['window', 'epochs']),
  orderPosition: count,
  orderRngPosition: count,
  patchRngPosition: count,
  /**
   * Whether weights and averages are finite and so were all gradients since the state before; absent in files of earlier
   * versions, as is the next.
   */
  isGood: z.boolean().optional(),
  due: z.array(z.enum(LATER_OUTPUTS)).readonly().optional(),
  /** Absent without dynamic loss scaling. */
  lossScale: z.object({ scale: z.number().positive(), goodSteps: count }).optional(),
  /** Images by pixels that power-function averages have followed; absent without them. */
  powerTime: z.number().min(0).optional(),
  /** Losses by patch size and noise level; absent where nothing follows them. */
  noise: z
    .record(
      z.string(),
      z
        .array(z.number())
        .length(2 * LEVEL_BINS.count)
        .readonly(),
    )
    .optional(),
});

/** What a state says of itself. */
export type StateInfo = Readonly<Pick<z.infer<typeof infoSchema>, 'nimg' | 'step' | 'isGood' | 'due'>>;

/** Writes the state; the file appears whole or not at all. */
export async function writeTrainingState(
  file: string,
  { state, counters, order, patchRandom, generators, device }: Resumable,
  { isGood, due }: Pick<StateInfo, 'isGood' | 'due'> = {},
): Promise<void> {
  const orderState = order.state;
  const patchState = patchRandom.state;
  const info: z.infer<typeof infoSchema> = {
    kind: 'training-state',
    formatVersion: FORMAT_VERSION,
    precond: state.denoiser.spec,
    datasetLength: order.length,
    nimg: state.nimg,
    step: state.step,
    counters,
    isGood,
    due,
    orderMode: orderState.mode,
    orderPosition: orderState.position,
    orderRngPosition: orderState.rng.position,
    patchRngPosition: patchState.position,
    ...(state.lossScale ? { lossScale: state.lossScale.state } : {}),
    ...(state.noise ? { noise: state.noise.state } : {}),
    ...(state.powerAverages ? { powerTime: state.powerAverages.time } : {}),
  };
  const small = {
    'random.cpu': torch.tensor(generators.cpu.getState()),
    ...(device === 'cpu' ? {} : { 'random.device': torch.tensor(generators.device.getState()) }),
    'order.items': torch.tensor(orderState.order),
    'order.random': wordsToTensor(orderState.rng.key),
    'patches.random': wordsToTensor(patchState.key),
  };
  try {
    const tensors = [
      ...prefixed('net.', state.denoiser.stateDict()),
      ...prefixed('ema.', state.ema.stateDict()),
      ...prefixed('adam.', state.optimizer.stateDict()),
      ...prefixed('power.', state.powerAverages?.stateDict() ?? new Map()),
      ...Object.entries(small),
    ];
    await writeSafetensors(file, tensors, { [METADATA_KEY]: JSON.stringify(info) }, { checksum: true });
  } finally {
    for (const tensor of Object.values(small)) tensor.dispose();
  }
}

/** Reads what a state says of itself, without its tensors. @throws UserError when the file is no training state */
export async function readStateInfo(file: string): Promise<StateInfo> {
  const reader = await openTensorFile(file);
  try {
    return parseInfo(reader, file);
  } finally {
    await reader.close();
  }
}

function parseInfo(reader: SafetensorsFile, file: string): z.infer<typeof infoSchema> {
  const info = readMetadata(reader, file);
  checkFormatVersion(info, FORMAT_VERSION, file);
  const { kind, imported } = info as { kind?: unknown; imported?: unknown };
  if (kind === 'training-state' && imported === undefined)
    return checkFields(infoSchema, info, `${file}: the description's field`);
  throw new UserError(
    'NOT_A_STATE',
    `${file} is not a training state; name a run folder or a file from its state/ folder`,
  );
}

/**
 * Restores a state in place.
 * @param allowDataChange whether the data may have another number of images; their order then begins anew
 * @returns the number of images at the time of the state
 * @throws UserError when the file is damaged, is something else, or belongs to another network or data set
 */
export async function readTrainingState(
  file: string,
  { state, counters, order, patchRandom, generators, device }: Resumable,
  allowDataChange = false,
): Promise<number> {
  const reader = await openTensorFile(file);
  try {
    const info = parseInfo(reader, file);
    checkSameNetwork(file, info.precond, state.denoiser.spec);
    const isSameData = info.datasetLength === order.length;
    if (!isSameData && !allowDataChange) throw otherData(file, info.datasetLength, order.length);
    // A part at a time, so that no two of them are in memory at once.
    torch.scope(() => state.denoiser.loadStateDict(tensorsUnder(reader, 'net.')));
    torch.scope(() => state.ema.loadStateDict(tensorsUnder(reader, 'ema.')));
    torch.scope(() => state.optimizer.loadStateDict(tensorsUnder(reader, 'adam.')));
    if (state.powerAverages) readPowerAverages(reader, state.powerAverages, info.powerTime ?? 0);
    torch.scope(() => {
      const bytes = (name: string) => reader.tensor(name).toTypedArray();
      generators.cpu.setState(bytes('random.cpu') as Uint8Array);
      if (device !== 'cpu' && reader.has('random.device')) {
        generators.device.setState(bytes('random.device') as Uint8Array);
      }
      if (isSameData) {
        order.state = {
          mode: info.orderMode,
          order: bytes('order.items') as Int32Array,
          position: info.orderPosition,
          rng: { key: tensorToWords(reader.tensor('order.random')), position: info.orderRngPosition },
        };
      }
      patchRandom.state = {
        key: tensorToWords(reader.tensor('patches.random')),
        position: info.patchRngPosition,
      };
    });
    if (state.noise && info.noise) state.noise.state = info.noise;
    if (state.lossScale && info.lossScale) state.lossScale.state = info.lossScale;
    state.nimg = info.nimg;
    state.step = info.step;
    Object.assign(counters, info.counters);
    return info.datasetLength;
  } catch (cause) {
    // A tensor is missing, has another shape, or holds impossible values.
    const isDamage = [RangeError, torch.StateDictError, torch.SafetensorsError].some(
      (c) => cause instanceof c,
    );
    if (!isDamage) throw cause;
    const { message } = cause as Error;
    throw new UserError('BAD_STATE', `${file} is damaged (${message}); resume from an earlier state`, {
      cause,
    });
  } finally {
    await reader.close();
  }
}

/** One tensor at a time. */
function readPowerAverages(reader: SafetensorsFile, averages: PowerAverages, time: number): void {
  torch.noGrad(() => {
    for (const [name, tensor] of averages.stateDict())
      torch.scope(() => void tensor.copy_(reader.tensor(`power.${name}`)));
  });
  averages.time = time;
}

function checkSameNetwork(file: string, saved: unknown, current: PrecondSpec): void {
  const difference = specDifference(saved, current);
  if (difference !== null) {
    throw new UserError(
      'STATE_MISMATCH',
      `${file} belongs to a network of ${difference}; resume with the options of its run.json, or start a new run with --transfer`,
    );
  }
}

function otherData(file: string, before: number, now: number): UserError {
  return new UserError(
    'STATE_MISMATCH',
    `${file} was trained on ${before} images and the data now has ${now}; restore the data, or resume with --allow-data-change`,
  );
}

function prefixed(prefix: string, tensors: ReadonlyMap<string, Tensor>): [string, Tensor][] {
  return [...tensors].map(([name, tensor]) => [prefix + name, tensor]);
}

/** 32-bit words as int32, the nearest type that safetensors and libtorch share. */
function wordsToTensor(words: Uint32Array): Tensor {
  return torch.tensor(new Int32Array(words.buffer, words.byteOffset, words.length));
}

function tensorToWords(tensor: Tensor): Uint32Array {
  return Uint32Array.from(tensor.toTypedArray() as Int32Array, (word) => word >>> 0);
}
