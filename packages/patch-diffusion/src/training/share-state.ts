/**
 * Several ranks begin alike: rank 0 reads or makes the options and the state of a run, and gives them to the others. At
 * every state they compare their weights.
 */
import { createHash } from 'node:crypto';
import * as torch from '@patch-diffusion/torch';
import { UserError, usageError } from '../common/errors.js';
import { version } from '../common/version.js';
import { checkSameOptions, ranksDiffer } from '../config/same-options.js';
import type { TrainOptions } from '../config/train-options.js';
import type { DataSet } from '../data/types.js';
import type { Ranks } from '../distributed/ranks.js';
import type { LoopCounters, Resumable } from './checkpoint.js';
import type { LevelSums } from './noise-histogram.js';

/** Options that may differ between ranks, since they are about their machines. */
const OWN_OPTIONS = [
  'data',
  'device',
  'threads',
  'autoencoder',
] as const satisfies readonly (keyof TrainOptions)[];
/** Options that only rank 0 acts on, or that it draws. */
const WRITERS_OPTIONS = [
  'out',
  'seed',
  'resume',
  'transfer',
] as const satisfies readonly (keyof TrainOptions)[];

/**
 * Rank 0's options, with what is this machine's own.
 * @throws UserError (exit code 2) naming an option that was given another value here
 */
export async function shareOptions(ranks: Ranks, own: TrainOptions): Promise<TrainOptions> {
  const libtorch = torch.version().torch;
  const text = await ranks.share(ranks.isWriter ? JSON.stringify({ options: own, version, libtorch }) : null);
  const first = JSON.parse(text) as { options: TrainOptions; version: string; libtorch: string };
  if (first.version !== version) throw ranksDiffer(ranks, 'patch-diffusion', version, first.version);
  if (first.libtorch !== libtorch) throw ranksDiffer(ranks, 'libtorch', libtorch, first.libtorch);
  checkSameOptions(ranks, own, first.options, [...OWN_OPTIONS, ...WRITERS_OPTIONS]);
  const machine = Object.fromEntries(OWN_OPTIONS.map((key) => [key, own[key]]));
  return { ...first.options, ...machine };
}

/** Items whose pixels, names and labels are compared. */
const COMPARED_ITEMS = 8;

/**
 * Compares the number, size and kind of the items, and the contents of a few.
 * @throws UserError (exit code 2) where the ranks have opened different data
 */
export async function checkSameData(ranks: Ranks, data: DataSet): Promise<void> {
  const { length, width, height, channels, labelDim } = data;
  const own = [
    `${length} images of ${width}×${height} px, ${channels} channels, ${labelDim} labels`,
    await digestOfSome(data),
  ];
  const all = (await ranks.gather(own.join('; contents '))).map((text) => text.split('; contents '));
  const other = all.findIndex(([kind, contents]) => kind !== all[0][0] || contents !== all[0][1]);
  if (other < 0) return;
  const kinds =
    all[other][0] === all[0][0]
      ? `rank ${other} has other images, names or labels than rank 0 (${all[0][0]} on both)`
      : `rank ${other} has other data (${all[other][0]}) than rank 0 (${all[0][0]})`;
  throw usageError('RANKS_DIFFER', `${kinds}; give all ranks the same images`);
}

async function digestOfSome(data: DataSet): Promise<string> {
  const some = Array.from({ length: COMPARED_ITEMS }, (_, i) =>
    Math.floor((i * (data.baseLength - 1)) / (COMPARED_ITEMS - 1)),
  );
  // Only asked about: an image that cannot be used gets its replacement later, when it is known which may stand in.
  const usable = await data.usable?.(some);
  const hash = createHash('sha256').update(JSON.stringify(usable ?? null));
  const items = some.filter((_, i) => usable?.[i] ?? true);
  await data.ready(items);
  const { width, height } = data;
  for (const item of items) {
    const { buffer, byteOffset, byteLength } = data.gather([item], {
      ...{ size: { width, height }, rows: [0], cols: [0] },
    });
    hash.update(new Uint8Array(buffer, byteOffset, byteLength));
    hash.update(JSON.stringify([data.nameOf(item), data.labelOf(item)]));
  }
  return hash.digest('hex').slice(0, 16);
}

/** What rank 0 tells besides tensors. */
interface Streams {
  readonly nimg: number;
  readonly step: number;
  readonly counters: LoopCounters;
  readonly powerTime: number | null;
  readonly noise: LevelSums | null;
  readonly lossScale: { scale: number; goodSteps: number } | null;
  readonly order: {
    mode: 'window' | 'epochs';
    items: string;
    position: number;
    key: string;
    rngPosition: number;
  };
  readonly patches: { key: string; position: number };
  readonly cpu: string;
  readonly device: string;
}

const encode = (array: Int32Array | Uint32Array | Uint8Array): string =>
  Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString('base64');
const decode = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text, 'base64'));

/** Gives all ranks the networks, optimiser, counters and random streams of rank 0. */
export async function shareState(ranks: Ranks, resumable: Resumable): Promise<void> {
  const { state } = resumable;
  const text = await ranks.share(ranks.isWriter ? JSON.stringify(streamsOf(resumable)) : null);
  const tensors = [state.denoiser, state.ema].flatMap((network) => [...network.stateDict().values()]);
  const moments = state.optimizer.stateDict();
  const averages = state.powerAverages?.stateDict() ?? new Map<string, torch.Tensor>();
  await torch.noGrad(() => ({
    done: ranks.shareTensors([...tensors, ...moments.values(), ...averages.values()]),
  })).done;
  if (ranks.isWriter) return;
  // Its number of steps is read from there.
  state.optimizer.loadStateDict(moments);
  restoreStreams(resumable, JSON.parse(text) as Streams);
}

function streamsOf({ state, counters, order, patchRandom, generators }: Resumable): Streams {
  const { mode, order: items, position, rng } = order.state;
  const patches = patchRandom.state;
  return {
    nimg: state.nimg,
    step: state.step,
    counters,
    powerTime: state.powerAverages?.time ?? null,
    noise: state.noise?.state ?? null,
    lossScale: state.lossScale?.state ?? null,
    order: { mode, items: encode(items), position, key: encode(rng.key), rngPosition: rng.position },
    patches: { key: encode(patches.key), position: patches.position },
    cpu: encode(generators.cpu.getState()),
    device: encode(generators.device.getState()),
  };
}

function restoreStreams({ state, counters, order, patchRandom, generators }: Resumable, from: Streams): void {
  const words = (text: string) => new Uint32Array(decode(text).buffer);
  Object.assign(state, { nimg: from.nimg, step: from.step });
  Object.assign(counters, from.counters);
  if (state.noise && from.noise) state.noise.state = from.noise;
  if (state.powerAverages && from.powerTime !== null) state.powerAverages.time = from.powerTime;
  if (state.lossScale && from.lossScale) state.lossScale.state = from.lossScale;
  const { mode, items, position, key, rngPosition } = from.order;
  order.state = {
    ...{ mode, order: new Int32Array(decode(items).buffer), position },
    rng: { key: words(key), position: rngPosition },
  };
  patchRandom.state = { key: words(from.patches.key), position: from.patches.position };
  generators.cpu.setState(decode(from.cpu));
  if (generators.device !== generators.cpu) generators.device.setState(decode(from.device));
}

/** @throws UserError where the weights of the ranks are not the same, bit for bit */
export async function checkSameWeights(ranks: Ranks, { state }: Resumable): Promise<void> {
  const hash = createHash('sha256');
  for (const parameter of [...state.denoiser.parameters(), ...state.ema.parameters()])
    hash.update(torch.scope(() => bytesOf(parameter)));
  const all = await ranks.gather(hash.digest('hex'));
  const others = all.flatMap((digest, rank) => (digest === all[0] ? [] : [rank]));
  if (others.length === 0) return;
  throw new UserError(
    'RANKS_DIVERGED',
    `the weights of rank ${others.join(', ')} are not those of rank 0 after update ${state.step}: a fault of a machine, or different hardware; continue from the last state with --resume`,
  );
}

function bytesOf(tensor: torch.Tensor): Uint8Array {
  const { buffer, byteOffset, byteLength } = tensor.detach().toTypedArray();
  return new Uint8Array(buffer, byteOffset, byteLength);
}
