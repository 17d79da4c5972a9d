/**
 * The native addon as TypeScript sees it, and its loading: at first use, so that importing this package costs
 * nothing and works where libtorch is absent (`--help`, `doctor`, the set-up itself).
 *
 * Tensors are numbers here (see native/table.h); only `tensor.ts` and the generated operators wrap them.
 */
import { createRequire } from 'node:module';
import { TorchError } from './errors.js';
import { locateAddon } from './setup/addon.js';
import { setupCommand, thisHost } from './setup/host.js';

/** An operator bound to libtorch: arguments in the order given to `bindOp`, tensors as handles. */
// biome-ignore lint/suspicious/noExplicitAny: the one place where types end; the generated signatures are typed.
export type NativeOp = (...args: any[]) => any;

/** An opaque generator object. */
export type NativeGenerator = { readonly __generator: unique symbol };

/** Opaque objects of the distributed part. */
export type NativeStore = { readonly __store: unique symbol };
export type NativeGroup = { readonly __group: unique symbol };
export type NativeHeartbeat = { readonly __heartbeat: unique symbol };
export type NativeReducer = { readonly __reducer: unique symbol };

/** An opaque set of graphs. */
export type NativeGraphPool = { readonly __graphPool: unique symbol };

/** Facts about the loaded library, see {@link version}. */
export interface NativeVersion {
  torch: string;
  config: string;
  cpuCapability: string | null;
  oneDnn: boolean;
  mkl: boolean;
  parallel: string;
  libraryFolder: string;
  noCudaReason: string | null;
}

/** What native/*.cc exports. */
interface NativeAddon {
  setErrorClass(errorClass: typeof TorchError): void;
  // tensors
  shape(handle: number): number[];
  strides(handle: number): number[];
  size(handle: number, dim: number): number;
  dtype(handle: number): string;
  device(handle: number): string;
  numel(handle: number): number;
  ndim(handle: number): number;
  isContiguous(handle: number, channelsLast?: boolean): boolean;
  sameStorage(a: number, b: number): boolean;
  alias(handle: number): number;
  release(handle: number): boolean;
  releaseMany(handles: Float64Array, count: number): void;
  collectable(handle: number): void;
  liveTensors(): number;
  nativeBytes(): number;
  // operators
  bindOp(name: string, overload: string, argumentNames: string): NativeOp | null;
  hasOp(name: string, overload: string | undefined, device?: string): boolean;
  schemas(): string[];
  // autograd
  backward(handle: number, gradient?: number, retainGraph?: boolean, createGraph?: boolean): void;
  grad(
    outputs: number[],
    inputs: number[],
    gradOutputs?: number[],
    retainGraph?: boolean,
    createGraph?: boolean,
    allowUnused?: boolean,
  ): (number | null)[];
  getGrad(handle: number): number | null;
  setGrad(handle: number, gradient: number | null): void;
  requiresGrad(handle: number): boolean;
  setRequiresGrad(handle: number, on: boolean): void;
  setData(handle: number, other: number): void;
  isLeaf(handle: number): boolean;
  isGradEnabled(): boolean;
  setGradEnabled(on: boolean): boolean;
  pushInference(): void;
  popInference(): void;
  // random
  createGenerator(device: string): NativeGenerator;
  defaultGenerator(device: string): NativeGenerator;
  seedGenerator(generator: NativeGenerator, seed: number | bigint): void;
  generatorSeed(generator: NativeGenerator): bigint;
  generatorDevice(generator: NativeGenerator): string;
  getGeneratorState(generator: NativeGenerator): Uint8Array;
  setGeneratorState(generator: NativeGenerator, state: Uint8Array): void;
  manualSeed(seed: number | bigint): void;
  // transfer
  fromBytes(data: ArrayBufferView, shape: readonly number[], dtype: string, device: string): number;
  writeBytes(handle: number, data: ArrayBufferView): void;
  readBytes(handle: number, data: ArrayBufferView): void;
  item(handle: number): number;
  readback<A extends ArrayBufferView>(handle: number, data: A): Promise<A>;
  // runtime
  version(): NativeVersion;
  getNumThreads(): number;
  setNumThreads(threads: number): void;
  limitMemory(bytes: number): boolean;
  cudaDeviceCount(): number;
  cudaDeviceInfo(index: number): { name: string; totalBytes: number; computeCapability: number };
  cudaMemory(
    index: number,
  ): { allocatedBytes: number; peakAllocatedBytes: number; reservedBytes: number } | null;
  mpsIsAvailable(): boolean;
  synchronize(device: string): void;
  setFlag(name: string, on: boolean): void;
  // graphs
  hasGraphs(device: string): boolean;
  createGraphPool(device: string): NativeGraphPool;
  beginCapture(pool: NativeGraphPool): void;
  endCapture(pool: NativeGraphPool, keep: boolean): number;
  replayGraph(pool: NativeGraphPool, graph: number): void;
  // several processes
  hasDistributed(): boolean;
  openStore(
    host: string,
    port: number,
    isServer: boolean,
    prefix: string,
    timeoutMs: number,
  ): Promise<NativeStore>;
  storeSet(store: NativeStore, key: string, text: string): Promise<void>;
  storeAdd(store: NativeStore, key: string, amount: number): Promise<number>;
  storeGet(store: NativeStore, key: string, timeoutMs: number): Promise<string | null>;
  openGroup(
    store: NativeStore,
    rank: number,
    size: number,
    address: string,
    networkInterface: string,
    timeoutMs: number,
  ): Promise<NativeGroup>;
  closeGroup(group: NativeGroup, isOrderly: boolean): void;
  allReduce(group: NativeGroup, handle: number): Promise<void>;
  broadcast(group: NativeGroup, handle: number, root: number): Promise<void>;
  allGather(group: NativeGroup, outputs: number[], handle: number): Promise<void>;
  barrier(group: NativeGroup): Promise<void>;
  startHeartbeat(
    host: string,
    port: number,
    prefix: string,
    rank: number,
    size: number,
    intervalMs: number,
    limitMs: number,
  ): { handle: NativeHeartbeat; verdict: Promise<string> };
  hurryHeartbeat(heartbeat: NativeHeartbeat): void;
  failHeartbeat(heartbeat: NativeHeartbeat, message: string): void;
  stopHeartbeat(heartbeat: NativeHeartbeat): void;
  createReducer(group: NativeGroup, parameters: number[], bucketBytes: number): NativeReducer;
  zeroReducer(reducer: NativeReducer): void;
  armReducer(reducer: NativeReducer): void;
  finishReducer(reducer: NativeReducer): Promise<void>;
}

let addon: NativeAddon | undefined;

/**
 * The addon, loaded at the first call.
 *
 * @throws SetupError when there is no libtorch or the addon is not built: its message names the command that fixes it.
 * @throws TorchError `ERR_TORCH_LOAD` when the file is there but the system cannot load it.
 */
export function native(): NativeAddon {
  return addon ?? load();
}

function load(): NativeAddon {
  const path = process.env.TORCH_ADDON || locateAddon().addon;
  let loaded: NativeAddon;
  try {
    loaded = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    const remedy = process.env.TORCH_ADDON
      ? 'TORCH_ADDON names it: correct or unset that variable.'
      : `Build it again: ${setupCommand(thisHost())}`;
    throw new TorchError(
      'ERR_TORCH_LOAD',
      `The native addon ${path} could not be loaded: ${reason}. ${remedy}`,
      undefined,
      undefined,
      { cause },
    );
  }
  loaded.setErrorClass(TorchError);
  addon = loaded;
  return loaded;
}

const hasOpCache = new Map<string, boolean>();

/**
 * Whether this libtorch has an operator.
 *
 * @param name - As in TypeScript (`scaledDotProductAttention`) or as in the schema (`_fused_adam_`), or with an
 * overload (`add.Tensor`). Without one, any overload counts.
 * @param device - Also ask for a kernel for this kind of device (`cpu`, `cuda`). Operators that are composed of
 * others report one for every device.
 */
export function hasOp(name: string, device?: string): boolean {
  const key = `${name} ${device ?? ''}`;
  let known = hasOpCache.get(key);
  if (known === undefined) {
    const dot = name.indexOf('.');
    const base = dot < 0 ? name : name.slice(0, dot);
    known = native().hasOp(snakeCase(base), dot < 0 ? undefined : name.slice(dot + 1), device);
    hasOpCache.set(key, known);
  }
  return known;
}

/** `groupNorm` → `group_norm`, `_fusedAdam_` → `_fused_adam_`. */
function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
