/**
 * Events of a training run. The loop emits them and knows nothing of what listens: the progress bar, the
 * statistics file, TensorBoard writers and tests. Every field is plain data; nothing keeps a tensor alive.
 */

import type { TrainOptions } from '../config/train-options.js';
import type { Progress } from '../data/types.js';
import type { Label } from '../diffusion/labels.js';
import type { PatchSchedule } from '../patches/schedule.js';
import type { StatsLine } from '../run/stats.js';
import type { TimeProgress } from './clock.js';
import type { LevelCounts } from './level-counts.js';

/** Where a run stands; on every event that follows a training step. */
export interface TrainProgress {
  /** Optimiser updates since the beginning of the run (resumed ones included). */
  readonly step: number;
  /** Images trained on, patches counting as images. */
  readonly nimg: number;
  /** `nimg / 1000`. */
  readonly kimg: number;
  /** Length of the run in images. */
  readonly totalNimg: number;
}

/** First event: everything is loaded, the run folder exists, training begins. */
export interface StartEvent extends TrainProgress {
  readonly type: 'start';
  readonly runDir: string;
  readonly options: TrainOptions;
  readonly dataset: {
    readonly name: string;
    readonly path: string;
    readonly length: number;
    readonly channels: number;
    readonly height: number;
    readonly width: number;
    /** Number of classes, or of numbers in a label; 0 without labels. */
    readonly labelDim: number;
    /** Labels that samples are drawn with: classes that have images, or label vectors; null for all classes. */
    readonly labels: readonly Label[] | null;
  };
  /** Patch sizes that are drawn, with their probability and batch multiplier. */
  readonly patches: readonly {
    readonly height: number;
    readonly width: number;
    readonly probability: number;
    readonly multiplier: number;
  }[];
  /** How the sizes are chosen over the run. */
  readonly schedule: PatchSchedule;
  readonly parameters: number;
  readonly device: string;
  /** State file that the run was resumed from, or null. */
  readonly resumedFrom: string | null;
}

/** Images being looked at or decoded. Comes before `start`. */
export interface DataEvent {
  readonly type: 'data';
  readonly phase: Parameters<Progress>[2];
  readonly done: number;
  readonly total: number;
}

/** One optimiser update. */
export interface StepEvent extends TrainProgress, TimeProgress {
  readonly type: 'step';
  /** Largest patch side of this update. */
  readonly patchSizePx: number;
  /** Images (patches) of this update. */
  readonly batch: number;
  /** Mean loss per pixel and channel. */
  readonly loss: number;
  readonly lr: number;
  /** Norm of the gradient before NaN and infinite elements are replaced; may itself be either. */
  readonly gradNorm: number;
  readonly imagesPerSec: number;
  readonly etaSec: number;
}

/** Once per `tickKimg`: statistics since the tick before. */
export interface TickEvent extends TrainProgress, TimeProgress {
  readonly type: 'tick';
  readonly tick: number;
  /** Mean loss over the interval. */
  readonly loss: number;
  /** Mean loss for each patch size that occurred, by its side in pixels (`16`) or width × height (`32x16`). */
  readonly lossPerPatch: Readonly<Record<string, number>>;
  /** Loss on the images of `holdout`. */
  readonly heldOutLoss?: number;
  readonly lr: number;
  readonly imagesPerSec: number;
  readonly secPerTick: number;
  readonly secPerKimg: number;
  /** Time spent on sampling and saving since the tick before. */
  readonly maintenanceSec: number;
  readonly etaSec: number;
  /** Resident memory of the process. */
  readonly rssBytes: number;
  /** Peak memory of the GPU's tensors so far, where libtorch can tell. */
  readonly gpuBytes?: number;
  /** Updates since the tick before whose gradient had NaN or infinite elements. */
  readonly nonFiniteGrads: number;
  /** Patches by noise level since the tick before, with `tensorboard` or where levels are drawn by the losses; else null. */
  readonly noiseLevels: LevelCounts | null;
  /** The line of `stats.jsonl`. */
  readonly stats: StatsLine;
}

/** A sheet of samples is being drawn. */
export interface SamplingEvent {
  readonly type: 'sampling';
  /** Images that are finished. */
  readonly done: number;
  readonly total: number;
  /** Solver step of the current batch. */
  readonly step: number;
  readonly numSteps: number;
}

/** A sheet of samples was written. */
export interface SamplesEvent extends TrainProgress {
  readonly type: 'samples';
  readonly file: string;
  /** Contents of the file. */
  readonly png: Uint8Array;
  /** The samples, uint8 [N, C, H, W]. */
  readonly pixels: Uint8Array;
  readonly shape: readonly [number, number, number, number];
  readonly sec: number;
}

/** A snapshot is being evaluated. */
export interface EvaluatingEvent {
  readonly type: 'evaluating';
  /** Such as `measuring the loss`. */
  readonly what: string;
  readonly done: number;
  readonly total: number;
}

/** A snapshot was evaluated; the run's `evaluations.jsonl` has all of it. */
export interface EvaluationResultEvent extends TrainProgress {
  readonly type: 'evaluation';
  /** The snapshot. */
  readonly file: string;
  /** Figures by their names in docs/evaluation.md, with the ends of their 95 % intervals. */
  readonly figures: Readonly<
    Record<string, { readonly value: number; readonly low: number; readonly high: number }>
  >;
  /** Whether it has the lowest held-out loss of the run's snapshots. */
  readonly isBest: boolean;
  readonly sec: number;
}

/** A network snapshot (EMA weights and configuration) was written. */
export interface SnapshotEvent extends TrainProgress {
  readonly type: 'snapshot';
  readonly file: string;
  readonly bytes: number;
}

/** A complete training state was written: a run continues from here exactly. */
export interface StateEvent extends TrainProgress {
  readonly type: 'state';
  readonly file: string;
  readonly bytes: number;
}

/** Something a person should know; the run continues. */
export interface WarningEvent {
  readonly type: 'warning';
  readonly code: string;
  readonly message: string;
}

/** The network of `--transfer` is being fetched. */
export interface FetchEvent {
  readonly type: 'fetch';
  readonly from: string;
  readonly doneBytes: number;
  /** Null where the host does not say. */
  readonly totalBytes: number | null;
}

/** What `--transfer` brought along. */
export interface TransferEvent {
  readonly type: 'transfer';
  /** Counts, in one line. */
  readonly message: string;
  /** One line per tensor that was not simply copied. */
  readonly details: readonly string[];
}

/** Last event of a run that did not fail. */
export interface EndEvent extends TrainProgress {
  readonly type: 'end';
  readonly reason: 'duration' | 'time' | 'memorising' | 'interrupted';
  readonly runDir: string;
  /** Newest snapshot, or null when none was written. */
  readonly snapshot: string | null;
  readonly totalSec: number;
}

export type TrainEvent =
  | StartEvent
  | DataEvent
  | StepEvent
  | TickEvent
  | SamplingEvent
  | SamplesEvent
  | SnapshotEvent
  | EvaluatingEvent
  | EvaluationResultEvent
  | StateEvent
  | WarningEvent
  | FetchEvent
  | TransferEvent
  | EndEvent;

export type TrainEventListener = (event: TrainEvent) => void;

/** A listener of training events threw; its error is the `cause`. The run ends as failed. */
export class ListenerError extends Error {
  constructor(event: TrainEvent['type'], cause: unknown) {
    const text = cause instanceof Error ? cause.message : String(cause);
    super(`the listener of training events failed on '${event}': ${text}`, { cause });
    this.name = 'ListenerError';
  }
}
