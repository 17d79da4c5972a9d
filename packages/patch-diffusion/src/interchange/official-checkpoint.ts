/**
 * Official checkpoints: `network-snapshot-*.pkl` (a pickle with the averaged network) and `training-state-*.pt`
 * (network and Adam state). Reads their description and locates their tensors; weights are loaded one at a time.
 */
import { UserError } from '../common/errors.js';
import type { LossSpec } from '../diffusion/losses.js';
import { checkPrecondSpec, checkSpecAgainstTensors } from '../diffusion/precond-schema.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { type ByteSource, FileSource } from '../formats/pickle/byte-source.js';
import { ModuleRecord, readTorchFile, stateDictOf, TensorRef } from '../formats/torch-file/index.js';
import { lossFromOfficial, precondFromOfficial, splitArguments } from './official-config.js';
import {
  broken,
  initArguments,
  mapOf,
  type NamedTensor,
  namedTensors,
  plainObject,
  shapesOf,
} from './official-module.js';

/** A network in a checkpoint. */
export interface OfficialNetwork {
  readonly spec: PrecondSpec;
  /** Parameters and buffers in state-dict order. */
  readonly tensors: readonly NamedTensor[];
}

/** `network-snapshot-*.pkl` */
export interface OfficialSnapshot {
  readonly kind: 'snapshot';
  readonly ema: OfficialNetwork;
  readonly loss: LossSpec;
  /** Arguments of the data set, as recorded; empty where they were not. */
  readonly dataset: Readonly<Record<string, unknown>>;
}

/** Adam's moments of one parameter. */
interface OfficialMoments {
  readonly step: number;
  readonly expAvg: TensorRef;
  readonly expAvgSq: TensorRef;
}

/** `training-state-*.pt` */
export interface OfficialState {
  readonly kind: 'training-state';
  readonly net: OfficialNetwork;
  /** By parameter name, in the order of the parameters. */
  readonly moments: ReadonlyMap<string, OfficialMoments>;
  /** Learning rate, betas, eps, … of Adam, as recorded. */
  readonly optimizer: Readonly<Record<string, unknown>>;
}

/** A bare state dict: names and tensors, without a description. */
interface StateDictFile {
  readonly kind: 'state-dict';
  readonly tensors: readonly NamedTensor[];
}

export type OfficialCheckpoint = OfficialSnapshot | OfficialState | StateDictFile;

/**
 * Opens a checkpoint file and hands its contents to `use`; the file is closed afterwards.
 * @throws UserError when the file is damaged, unsafe or something else
 */
export async function withCheckpoint<T>(
  file: string,
  use: (checkpoint: OfficialCheckpoint) => T | Promise<T>,
): Promise<T> {
  const source = new FileSource(file);
  try {
    return await use(await readCheckpoint(source, file));
  } finally {
    source.close();
  }
}

/** Reads what a checkpoint says; tensor data stays in `source`. @param file name for messages */
export async function readCheckpoint(source: ByteSource, file: string): Promise<OfficialCheckpoint> {
  const top = await readTorchFile(source, file);
  if (top instanceof Map) {
    const [ema, net] = [top.get('ema'), top.get('net')];
    if (ema instanceof ModuleRecord) return snapshot(top, ema, file);
    if (net instanceof ModuleRecord) return trainingState(top, net, file);
    const dict = stateDictOf(top);
    if (dict) {
      const tensors = Array.from(dict, ([name, tensor]) => ({ name, tensor, isParameter: true }));
      return { kind: 'state-dict', tensors };
    }
  }
  throw new UserError(
    'NOT_A_CHECKPOINT',
    `${file} holds neither a network snapshot nor a training state; name a network-snapshot-*.pkl or training-state-*.pt`,
  );
}

function snapshot(top: ReadonlyMap<unknown, unknown>, ema: ModuleRecord, file: string): OfficialSnapshot {
  const dataset = plainObject(mapOf(top.get('dataset_kwargs')), file);
  return { kind: 'snapshot', ema: network(ema, file), loss: lossOf(top.get('loss_fn'), file), dataset };
}

function trainingState(
  top: ReadonlyMap<unknown, unknown>,
  record: ModuleRecord,
  file: string,
): OfficialState {
  const net = network(record, file);
  const adam = mapOf(top.get('optimizer_state'));
  const states = mapOf(adam.get('state'));
  const parameters = net.tensors.filter(({ isParameter }) => isParameter);
  const moments = new Map<string, OfficialMoments>();
  for (const [index, { name, tensor }] of parameters.entries()) {
    const state = states.get(index);
    // A parameter that never had a gradient has no state.
    if (state === undefined) continue;
    moments.set(name, momentsOf(mapOf(state), name, tensor, file));
  }
  const groups = adam.get('param_groups');
  const group = Array.isArray(groups) ? mapOf(groups[0]) : new Map();
  return { kind: 'training-state', net, moments, optimizer: plainObject(group, file) };
}

function momentsOf(
  state: ReadonlyMap<unknown, unknown>,
  name: string,
  parameter: TensorRef,
  file: string,
): OfficialMoments {
  const [expAvg, expAvgSq, step] = ['exp_avg', 'exp_avg_sq', 'step'].map((key) => state.get(key));
  const fits = (t: unknown): t is TensorRef =>
    t instanceof TensorRef && String(t.shape) === String(parameter.shape);
  if (!fits(expAvg) || !fits(expAvgSq)) throw broken(file, `the optimiser's moments of ${name} do not fit`);
  return { step: stepOf(step, name, file), expAvg, expAvgSq };
}

/** A 0-dimensional float32 tensor, or a plain number in files of older PyTorch. */
function stepOf(step: unknown, name: string, file: string): number {
  if (typeof step === 'number') return step;
  if (step instanceof TensorRef && step.numel === 1 && step.storage.type.dtype === 'float32') {
    const bytes = step.bytes();
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
  }
  throw broken(file, `the optimiser's step count of ${name} is no number`);
}

/** The preconditioner's description from its recorded arguments and attributes. */
function network(record: ModuleRecord, file: string): OfficialNetwork {
  const model = mapOf(record.state.get('_modules')).get('model');
  const own = initArguments(record, file);
  if (!(model instanceof ModuleRecord) || own === null) {
    throw new UserError(
      'NOT_A_CHECKPOINT',
      `${file} holds a ${record.className} without recorded arguments; only EDM and Patch Diffusion networks can be imported`,
    );
  }
  const attributes = plainObject(record.state, file);
  const { own: args, model: modelArgs } = splitArguments({ ...initArguments(model, file), ...own });
  args.model_type = model.className;
  for (const key of ['img_resolution', 'img_channels', 'label_dim', 'out_channels'])
    args[key] ??= attributes[key] ?? null;
  delete modelArgs.in_channels;
  const spec = checkPrecondSpec(
    precondFromOfficial(record.className, args, dropNulls(modelArgs), file),
    file,
  );
  const tensors = namedTensors(record, file);
  checkSpecAgainstTensors(spec, shapesOf(tensors), file);
  return { spec, tensors };
}

function dropNulls(args: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(args).filter(([, value]) => value !== null));
}

/** The loss by its class, with the constants that it holds; EDM's where none is recorded. */
function lossOf(record: unknown, file: string): LossSpec {
  if (!(record instanceof ModuleRecord)) return { type: 'edm' };
  return lossFromOfficial(record.className, plainObject(record.state, file)) ?? { type: 'edm' };
}
