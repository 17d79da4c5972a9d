/**
 * The processes that train together, seen from one of them. All collectives here end in time: with a result, or with an
 * error that names the rank that was lost or has failed.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Tensor, Verdict } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { Place } from './environment.js';
import { meet, openStore, type RanksOptions, ranksOptions } from './meeting.js';
import { ownAddress } from './own-address.js';

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
  /** Undefined only until {@link join} has connected the ranks. */
  #group!: torch.ProcessGroup;
  readonly #heartbeat: torch.Heartbeat;
  readonly #options: RanksOptions;
  readonly #remedy: string;
  /** "process 7 on host", by rank. */
  readonly #names: readonly string[];
  readonly #waiting = new Set<(error: Error) => void>();
  readonly #gone = new AbortController();
  #loss: RankError | null = null;
  #hasLeft = false;

  private constructor(
    readonly place: Place,
    parts: { store: torch.Store; names: readonly string[]; remedy: string },
    options: RanksOptions,
  ) {
    this.rank = place.rank;
    this.worldSize = place.worldSize;
    this.#store = parts.store;
    this.#names = parts.names;
    this.#remedy = parts.remedy;
    this.#options = options;
    const { lostMs } = options;
    const times = { intervalMs: Math.min(1000, lostMs / BEATS), limitMs: lostMs };
    this.#heartbeat = new torch.Heartbeat(this.#store.address, place, times);
    void this.#heartbeat.verdict.then((verdict) => this.#onVerdict(verdict));
  }

  /**
   * Meets the other ranks.
   * @param remedy what to do when a rank is lost
   * @throws UserError when they do not come in time, or do not fit together
   */
  static async join(place: Place, remedy: string): Promise<Ranks> {
    const options = ranksOptions();
    const store = await openStore(place, options);
    const names = await meet(store, place, options);
    const { rank, worldSize, host, port } = place;
    const networkInterface = process.env.GLOO_SOCKET_IFNAME;
    // From now on a rank that is lost is noticed, also where the others still wait for its connection.
    const ranks = new Ranks(place, { store, names, remedy }, options);
    const opening = torch.ProcessGroup.open(store, {
      ...{ rank, worldSize, timeoutMs: COLLECTIVE_MS },
      ...(networkInterface ? { networkInterface } : { address: (await ownAddress(host, port)) ?? '' }),
    });
    try {
      ranks.#group = await ranks.#guard(opening);
      return ranks;
    } catch (error) {
      await ranks.fail(error);
      throw error;
    }
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

  /** The bytes of all ranks, by rank. */
  gatherBytes(bytes: Uint8Array): Promise<Uint8Array[]> {
    return this.#guard(this.#group.allGatherBytes(bytes));
  }

  /** Rank 0's text, on all. @param text that of rank 0; others give null */
  async share(text: string | null): Promise<string> {
    const bytes = await this.shareBytes(text === null ? null : new TextEncoder().encode(text));
    return new TextDecoder().decode(bytes);
  }

  /** Rank 0's bytes, on all. @param bytes those of rank 0; others give null */
  async shareBytes(bytes: Uint8Array | null): Promise<Uint8Array> {
    const own = this.isWriter ? (bytes ?? new Uint8Array(0)) : null;
    const [length] = await this.sum([own?.length ?? 0]);
    if (length === 0) return new Uint8Array(0);
    const tensor = torch.tensor(own ?? new Uint8Array(length));
    try {
      await this.shareTensors([tensor]);
      return tensor.toTypedArray() as Uint8Array;
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

  /** Ends the common work, when all ranks have done theirs; once is enough. */
  async leave(): Promise<void> {
    if (this.#hasLeft) return;
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
    this.#group?.abort();
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
    const again = this.#remedy;
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
      new RankError(`the connection to another rank broke (${error.message}); ${this.#remedy}`, null)
    );
  }
}
