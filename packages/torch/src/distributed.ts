/**
 * Several processes that compute together: libtorch's own c10d. Processes meet at a {@link Store}, form a
 * {@link ProcessGroup} over Gloo, and watch each other by a {@link Heartbeat}.
 *
 * Every rank must call the same collectives in the same order. All of them return promises: nothing waits on the
 * JavaScript thread for another process.
 */
import { TorchError } from './errors.js';
import {
  type NativeGroup,
  type NativeHeartbeat,
  type NativeReducer,
  type NativeStore,
  native,
} from './native.js';
import { empty } from './ops/index.js';
import { type Tensor, tensor } from './tensor.js';

/** Whether this libtorch can work with other processes. */
export function distributedIsAvailable(): boolean {
  return native().hasDistributed();
}

/** Where the processes of a group meet: the TCPStore of the process that serves it. */
export interface StoreAddress {
  readonly host: string;
  readonly port: number;
  /** Whether this process serves the store; one process does. */
  readonly isServer: boolean;
  /** Put before all keys, so that groups that follow one another at the same address do not meet. */
  readonly prefix: string;
}

/** Small texts by key, shared by all processes. */
export class Store {
  /** @internal */
  readonly _s: NativeStore;

  private constructor(
    store: NativeStore,
    readonly address: StoreAddress,
  ) {
    this._s = store;
  }

  /**
   * Serves the store or connects to it.
   * @throws TorchError when the port is taken, or when nobody answers within `timeoutMs`
   */
  static async open(address: StoreAddress, timeoutMs: number): Promise<Store> {
    const addon = native();
    if (!addon.hasDistributed()) {
      const what = 'this libtorch is older than 2.0, or built without its distributed part (c10d with Gloo)';
      throw new TorchError('ERR_TORCH_UNSUPPORTED', `${what}; use another libtorch for several processes`);
    }
    const { host, port, isServer, prefix } = address;
    return new Store(await addon.openStore(host, port, isServer, prefix, timeoutMs), address);
  }

  set(key: string, text: string): Promise<void> {
    return native().storeSet(this._s, key, text);
  }

  /** Adds to a number that begins at 0; returns the sum. */
  add(key: string, amount: number): Promise<number> {
    return native().storeAdd(this._s, key, amount);
  }

  /** The text of a key, or null when nobody sets it within `timeoutMs`. */
  get(key: string, timeoutMs: number): Promise<string | null> {
    return native().storeGet(this._s, key, timeoutMs);
  }
}

/** Which connections a {@link ProcessGroup} uses. */
export interface GroupOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** Own address to listen at, such as `127.0.0.1`; by default that of this machine's name. */
  readonly address?: string;
  /** Or the network interface, such as `eth0`. */
  readonly networkInterface?: string;
  /** A collective that takes longer fails. */
  readonly timeoutMs: number;
}

/** Ranks 0 … worldSize − 1 with collectives over Gloo. */
export class ProcessGroup {
  /** @internal */
  readonly _g: NativeGroup;
  readonly rank: number;
  readonly worldSize: number;

  private constructor(group: NativeGroup, { rank, worldSize }: GroupOptions) {
    this._g = group;
    this.rank = rank;
    this.worldSize = worldSize;
  }

  /** Connects to all other ranks of the store, which do the same. */
  static async open(store: Store, options: GroupOptions): Promise<ProcessGroup> {
    const { rank, worldSize, address = '', networkInterface = '', timeoutMs } = options;
    const group = await native().openGroup(store._s, rank, worldSize, address, networkInterface, timeoutMs);
    return new ProcessGroup(group, options);
  }

  /** The sum over all ranks, in place; bit for bit the same on every rank. */
  allReduce(values: Tensor): Promise<void> {
    return native().allReduce(this._g, values._h);
  }

  /** The values of rank `root`, in place. */
  broadcast(values: Tensor, root = 0): Promise<void> {
    return native().broadcast(this._g, values._h, root);
  }

  /** The texts of all ranks, by rank. For small ones: the longest decides how much is sent. */
  async allGather(text: string): Promise<string[]> {
    const all = await this.allGatherBytes(new TextEncoder().encode(text));
    return all.map((bytes) => new TextDecoder().decode(bytes));
  }

  /** The bytes of all ranks, by rank; they may differ in length. The longest decides how much is sent. */
  async allGatherBytes(bytes: Uint8Array): Promise<Uint8Array[]> {
    const lengths = await this.#gather(Int32Array.of(bytes.length), Int32Array);
    const longest = Math.max(...lengths.map(([length]) => length));
    if (longest === 0) return lengths.map(() => new Uint8Array(0));
    const padded = new Uint8Array(longest);
    padded.set(bytes);
    const all = await this.#gather(padded, Uint8Array);
    return all.map((part, rank) => part.subarray(0, lengths[rank][0]));
  }

  async #gather<A extends Int32Array | Uint8Array>(
    values: A,
    kind: { new (length: number): A },
  ): Promise<A[]> {
    const input = tensor(values);
    const outputs = Array.from({ length: this.worldSize }, () =>
      empty([values.length], { dtype: input.dtype }),
    );
    try {
      await native().allGather(
        this._g,
        outputs.map(({ _h }) => _h),
        input._h,
      );
      return outputs.map((output) => output.toTypedArray() as InstanceType<typeof kind>);
    } finally {
      for (const part of [input, ...outputs]) part.dispose();
    }
  }

  /** Settles when all ranks have called it. */
  barrier(): Promise<void> {
    return native().barrier(this._g);
  }

  /** Closes the connections, once all collectives are done. */
  close(): void {
    native().closeGroup(this._g, true);
  }

  /** Gives the group up: collectives that wait for a rank that is gone never settle. */
  abort(): void {
    native().closeGroup(this._g, false);
  }
}

/** What a {@link Heartbeat} found. */
export type Verdict =
  /** A rank has given no sign of life. */
  | { readonly kind: 'lost'; readonly rank: number }
  /** A rank has said that it fails. */
  | { readonly kind: 'failed'; readonly rank: number; readonly message: string }
  /** The process that holds the store is gone, or stands still. */
  | { readonly kind: 'store-lost'; readonly message: string }
  /** {@link Heartbeat.stop} was called. */
  | { readonly kind: 'left' };

/** Signs of life between the ranks, on threads of their own: a rank that computes for minutes is not lost. */
export class Heartbeat {
  readonly #native: NativeHeartbeat;
  /** Settles once, when something is found. Does not keep the process alive. */
  readonly verdict: Promise<Verdict>;

  /** @param limitMs a rank without a sign of life for so long is lost */
  constructor(
    { host, port, prefix }: StoreAddress,
    { rank, worldSize }: { readonly rank: number; readonly worldSize: number },
    { intervalMs, limitMs }: { readonly intervalMs: number; readonly limitMs: number },
  ) {
    const { handle, verdict } = native().startHeartbeat(
      ...([host, port, prefix, rank, worldSize, intervalMs, limitMs] as const),
    );
    this.#native = handle;
    this.verdict = verdict.then(parseVerdict);
  }

  /** Something has failed: a rank without a sign of life for a few intervals is lost. */
  hurry(): void {
    native().hurryHeartbeat(this.#native);
  }

  /** Tells all ranks that this one fails. */
  fail(message: string): void {
    native().failHeartbeat(this.#native, message);
  }

  /** This rank is done; it is not missed. */
  stop(): void {
    native().stopHeartbeat(this.#native);
  }
}

function parseVerdict(text: string): Verdict {
  const [kind, rest = ''] = split(text);
  if (kind === 'lost') return { kind, rank: Number(rest) };
  if (kind === 'left') return { kind };
  if (kind !== 'failed') return { kind: 'store-lost', message: rest };
  const [rank, message] = split(rest);
  return { kind, rank: Number(rank), message };
}

function split(text: string): [string, string] {
  const space = text.indexOf(' ');
  return space < 0 ? [text, ''] : [text.slice(0, space), text.slice(space + 1)];
}

/** Bytes of a bucket of gradients: large enough for bandwidth, small enough to begin while backward goes on. */
const BUCKET_BYTES = 8 << 20;

/**
 * Sums the gradients of all ranks while backward goes on. It owns the parameters' gradients, which begin at zero: use
 * {@link zero} in place of an optimiser's `zeroGrad()`.
 */
export class GradientReducer {
  readonly #native: NativeReducer;

  /** @param parameters the same on all ranks, in the order of the forward pass */
  constructor(group: ProcessGroup, parameters: readonly Tensor[], bucketBytes = BUCKET_BYTES) {
    const handles = parameters.map(({ _h }) => _h);
    this.#native = native().createReducer(group._g, handles, bucketBytes);
  }

  /** Sets all gradients to zero, before the first backward of an update. */
  zero(): void {
    native().zeroReducer(this.#native);
  }

  /** The next backward is the last of the update: each gradient is final when it arrives. */
  arm(): void {
    native().armReducer(this.#native);
  }

  /** Settles when the gradients are the sums over all ranks. */
  finish(): Promise<void> {
    return native().finishReducer(this.#native);
  }
}
