/**
 * The processes that train together, seen from one of them. All collectives here end in time: with a result, or with an
 * error that names the rank that was lost or has failed.
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StoreAddress, Tensor, Verdict } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError, usageError } from '../common/errors.js';
import { isLoopback, type Place } from './environment.js';

/** Times that a cluster may need otherwise. */
interface RanksOptions {
  /** How long the ranks wait for each other at the start. */
  readonly joinMs: number;
  /** A rank without a sign of life for so long is lost. */
  readonly lostMs: number;
}

/** `PATCH_DIFFUSION_JOIN_SEC` and `PATCH_DIFFUSION_LOST_SEC`, or their defaults. */
function ranksOptions(env: Readonly<Record<string, string | undefined>> = process.env): RanksOptions {
  const ms = (name: string, fallback: number) => {
    const text = env[name]?.trim();
    if (!text) return fallback * 1000;
    const sec = Number(text);
    if (!(sec >= 1 && sec <= 86_400))
      throw usageError('BAD_ENVIRONMENT', `${name}=${text} is not a number of seconds from 1 to 86400`);
    return sec * 1000;
  };
  return { joinMs: ms('PATCH_DIFFUSION_JOIN_SEC', 120), lostMs: ms('PATCH_DIFFUSION_LOST_SEC', 20) };
}

/** Longer than any sheet, evaluation or checkpoint: a rank that is lost is noticed by its heartbeat. */
const COLLECTIVE_MS = 24 * 3600 * 1000;
const BEATS = 10;

/** A rank was lost or has failed, and this one cannot go on without it. */
export class RankError extends UserError {
  /**
   * @param rank the lost one, or null where it is not known
   * @param isFailure whether that rank itself has said why
   */
  constructor(
    message: string,
    readonly rank: number | null,
    readonly isFailure = false,
  ) {
    super('RANK_LOST', message);
  }
}

export class Ranks {
  readonly rank: number;
  readonly worldSize: number;
  readonly #store: torch.Store;
  readonly #group: torch.ProcessGroup;
  readonly #heartbeat: torch.Heartbeat;
  readonly #options: RanksOptions;
  /** "process 7 on host", by rank. */
  readonly #names: readonly string[];
  readonly #waiting = new Set<(error: Error) => void>();
  readonly #gone = new AbortController();
  #loss: RankError | null = null;
  #hasLeft = false;

  private constructor(
    readonly place: Place,
    parts: { store: torch.Store; group: torch.ProcessGroup; names: readonly string[] },
    options: RanksOptions,
  ) {
    this.rank = place.rank;
    this.worldSize = place.worldSize;
    this.#store = parts.store;
    this.#group = parts.group;
    this.#names = parts.names;
    this.#options = options;
    const { lostMs } = options;
    const times = { intervalMs: Math.min(1000, lostMs / BEATS), limitMs: lostMs };
    this.#heartbeat = new torch.Heartbeat(this.#store.address, place, times);
    void this.#heartbeat.verdict.then((verdict) => this.#onVerdict(verdict));
  }

  /**
   * Meets the other ranks.
   * @throws UserError when they do not come in time, or do not fit together
   */
  static async join(place: Place, options: RanksOptions = ranksOptions()): Promise<Ranks> {
    const store = await openStore(place, options);
    const names = await meet(store, place, options);
    const { rank, worldSize, host } = place;
    const networkInterface = process.env.GLOO_SOCKET_IFNAME;
    const group = await torch.ProcessGroup.open(store, {
      ...{ rank, worldSize, timeoutMs: COLLECTIVE_MS },
      ...(networkInterface ? { networkInterface } : isLoopback(host) ? { address: '127.0.0.1' } : {}),
    });
    return new Ranks(place, { store, group, names }, options);
  }

  /** Whether this is the one that writes files. */
  get isWriter(): boolean {
    return this.rank === 0;
  }

  /** Raised when another rank is lost: work that only this rank does can be given up. */
  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  /** Sums numbers over all ranks. */
  async sum(values: readonly number[]): Promise<number[]> {
    const tensor = torch.tensor(Float64Array.from(values));
    try {
      await this.#guard(this.#group.allReduce(tensor));
      return [...(tensor.toTypedArray() as Float64Array)];
    } finally {
      tensor.dispose();
    }
  }

  /** The texts of all ranks, by rank. */
  gather(text: string): Promise<string[]> {
    return this.#guard(this.#group.allGather(text));
  }

  /** Rank 0's text, on all. @param text that of rank 0; others give null */
  async share(text: string | null): Promise<string> {
    const bytes = new TextEncoder().encode(text ?? '');
    const [length] = await this.sum([this.isWriter ? bytes.length : 0]);
    const tensor = torch.tensor(this.isWriter ? bytes : new Uint8Array(length));
    try {
      if (length > 0) await this.shareTensors([tensor]);
      return new TextDecoder().decode(tensor.toTypedArray() as Uint8Array);
    } finally {
      tensor.dispose();
    }
  }

  /** Gives the tensors of all ranks the values of rank 0's. */
  async shareTensors(tensors: Iterable<Tensor>): Promise<void> {
    for (const tensor of tensors) await this.#guard(this.#group.broadcast(tensor));
  }

  /** Sums gradients over all ranks while backward goes on. */
  reducer(parameters: readonly Tensor[]): Pick<torch.GradientReducer, 'zero' | 'arm' | 'finish'> {
    const reducer = new torch.GradientReducer(this.#group, parameters);
    return {
      zero: () => reducer.zero(),
      arm: () => reducer.arm(),
      finish: () => this.#guard(reducer.finish()),
    };
  }

  /** Ends the common work, when all ranks have done theirs. */
  async leave(): Promise<void> {
    await this.#guard(this.#group.barrier());
    this.#hasLeft = true;
    this.#heartbeat.stop();
    await this.#within(this.#heartbeat.verdict);
    await this.#waitForOthers();
    this.#group.close();
  }

  /** Tells the other ranks why this one ends, unless it does so because of them. */
  async fail(error: unknown): Promise<void> {
    this.#hasLeft = true;
    this.#heartbeat.fail(error instanceof Error ? error.message : String(error));
    await this.#within(this.#heartbeat.verdict);
    await this.#waitForOthers();
    this.#group.abort();
  }

  /** Waits for the heartbeat's last word, but no longer than it takes where all is well. */
  async #within(work: Promise<unknown>): Promise<void> {
    const timer = new AbortController();
    const patience = sleep(this.#options.lostMs / BEATS + 2000, null, timer).catch(() => {});
    await Promise.race([work, patience]);
    timer.abort();
  }

  /** Where rank 0 serves the store, it stays until the others have read there how it ended. */
  async #waitForOthers(): Promise<void> {
    if (!this.place.isServer) return;
    const end = Date.now() + this.#options.lostMs / BEATS + 3000;
    for (let other = 1; other < this.worldSize; other++) {
      if (other === this.#loss?.rank) continue;
      const left = await this.#store.get(`left/${other}`, Math.max(0, end - Date.now())).catch(() => null);
      if (left === null) return;
    }
  }

  #onVerdict(verdict: Verdict): void {
    if (this.#hasLeft) return;
    this.#loss = this.#explain(verdict);
    for (const reject of this.#waiting) reject(this.#loss);
    this.#waiting.clear();
    this.#gone.abort();
  }

  /** `rank 1 (process 4711 on node2)`. */
  describe(rank: number): string {
    return `rank ${rank} (${this.#names[rank]})`;
  }

  #explain(verdict: Verdict): RankError {
    const again = 'start all ranks again with --resume to continue from the last state';
    if (verdict.kind === 'failed')
      return new RankError(`rank ${verdict.rank} has failed: ${verdict.message}`, verdict.rank, true);
    const { lostMs } = this.#options;
    if (verdict.kind === 'lost') {
      const { rank } = verdict;
      const who = this.describe(rank);
      if (rank === this.rank)
        return new RankError(`${who} was too long without a sign of life; ${again}`, rank);
      return new RankError(`${who} is lost: it was ended, stopped, or cut off; ${again}`, rank);
    }
    const { host, port } = this.place;
    const why = `${host}:${port} does not answer for ${lostMs / 1000} s or has closed the connection`;
    return this.place.isServer || this.#isAgents
      ? new RankError(`the store of the ranks is lost: ${why}; ${again}`, null)
      : new RankError(`rank 0 (${this.#names[0]}) is lost: ${why}; ${again}`, 0);
  }

  /** Does an agent of torchrun's serve the store? */
  get #isAgents(): boolean {
    return process.env.TORCHELASTIC_USE_AGENT_STORE === 'True';
  }

  /** Waits for a collective, as long as all ranks live. */
  #guard<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (this.#loss) {
        work.catch(() => {});
        reject(this.#loss);
        return;
      }
      this.#waiting.add(reject);
      work
        .then(resolve, (error: Error) => void this.#whoFailed(error).then(reject))
        .finally(() => {
          this.#waiting.delete(reject);
        });
    });
  }

  /** A collective has failed, mostly since a connection was closed: waits until it is known by whom. */
  async #whoFailed(error: Error): Promise<Error> {
    this.#heartbeat.hurry();
    const end = Date.now() + this.#options.lostMs + 2000;
    while (this.#loss === null && Date.now() < end) await sleep(20);
    return (
      this.#loss ??
      new RankError(
        `the connection to another rank broke (${error.message}); start all ranks again with --resume`,
        null,
      )
    );
  }
}

async function openStore(
  { rank, host, port, isServer, group }: Place,
  { joinMs }: RanksOptions,
): Promise<torch.Store> {
  const address: StoreAddress = { host, port, isServer, prefix: `patch-diffusion/${group}` };
  try {
    return await torch.Store.open(address, joinMs);
  } catch (cause) {
    if (!(cause instanceof torch.TorchError) || cause.code !== 'ERR_TORCH') throw cause;
    const message = isServer
      ? `rank 0 cannot listen on port ${port} (${cause.message}); set MASTER_PORT to a free one on all ranks`
      : `rank ${rank} got no answer from rank 0 at ${host}, port ${port}, within ${joinMs / 1000} s; start rank 0, or correct MASTER_ADDR and MASTER_PORT`;
    throw new UserError('NO_MASTER', message, { cause });
  }
}

/**
 * Waits until all ranks are there and agree on their number.
 * @returns what each one is: "process 7 on host"
 */
async function meet(
  store: torch.Store,
  { rank, worldSize, host, port }: Place,
  { joinMs }: RanksOptions,
): Promise<string[]> {
  const refuse = async (message: string): Promise<never> => {
    await store.set('refused', message);
    throw usageError('BAD_ENVIRONMENT', message);
  };
  if (rank === 0) await store.set('world', String(worldSize));
  if ((await store.add(`taken/${rank}`, 1)) > 1)
    return refuse(`two processes are rank ${rank}; give each its own RANK`);
  await store.set(`here/${rank}`, `process ${process.pid} on ${hostname()}`);
  const end = Date.now() + joinMs;
  const names: string[] = [];
  while (names.length < worldSize) {
    const name = await store.get(`here/${names.length}`, Math.min(200, Math.max(0, end - Date.now())));
    const refused = await store.get('refused', 0);
    if (refused !== null) throw usageError('BAD_ENVIRONMENT', refused);
    if (names.length === 0 && name !== null) {
      const world = Number(await store.get('world', 1000));
      if (world !== worldSize)
        return refuse(
          `rank ${rank} was told of ${worldSize} ranks, rank 0 of ${world}; start all with the same number`,
        );
    }
    if (name !== null) names.push(name);
    else if (Date.now() >= end) throw await missing(store, { worldSize, host, port, joinMs });
  }
  return names;
}

async function missing(
  store: torch.Store,
  { worldSize, host, port, joinMs }: { worldSize: number; host: string; port: number; joinMs: number },
): Promise<UserError> {
  const names = await Promise.all(
    Array.from({ length: worldSize }, (_, other) => store.get(`here/${other}`, 0).catch(() => null)),
  );
  const absent = names.flatMap((name, other) => (name === null ? [other] : []));
  const who = `${absent.length > 1 ? 'ranks' : 'rank'} ${absent.join(', ')} of ${worldSize}`;
  return new UserError(
    'RANK_MISSING',
    `${who} did not come to ${host}, port ${port}, within ${joinMs / 1000} s; start all ranks at the same time`,
  );
}
