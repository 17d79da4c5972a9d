/**
 * Evaluations of a run while it trains. Training does not know how a network is judged: it takes a function that does it,
 * which the library's entry point and the command line supply.
 */
import type { DataSet } from '../data/types.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import type { LatentDecoder } from '../latents/latents.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';

/** What is judged: averaged weights that were just written as a snapshot. */
export interface Candidate {
  readonly runDir: string;
  /** The snapshot. */
  readonly file: string;
  readonly info: SnapshotInfo;
  readonly denoiser: Denoiser;
  readonly decoder: LatentDecoder | null;
  readonly device: string;
  /** Images that the run trains on. */
  readonly training: DataSet;
  readonly heldOut: DataSet | null;
}

/** What an evaluation found. */
export interface Verdict {
  /** Each figure with the ends of its 95 % interval. */
  readonly figures: Readonly<
    Record<
      string,
      { readonly value: number; readonly low: number; readonly high: number; readonly floor: number | null }
    >
  >;
  readonly warnings: readonly string[];
}

/** Judges a network and adds a line to the run's `evaluations.jsonl`. It draws from no random stream of the run. */
export type Evaluator = (
  candidate: Candidate,
  context: {
    readonly signal?: AbortSignal | undefined;
    readonly onProgress: (what: string, done: number, total: number) => void;
  },
) => Promise<Verdict>;
