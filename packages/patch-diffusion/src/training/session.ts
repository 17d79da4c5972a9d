/**
 * What a training run holds while it runs: options, data, run folder, networks, random streams, clock and statistics.
 */

import type { TrainOptions } from '../config/train-options.js';
import type { DataSet } from '../data/types.js';
import type { Label } from '../diffusion/labels.js';
import type { Ranks } from '../distributed/ranks.js';
import type { LatentDecoder } from '../latents/latents.js';
import type { RunFolder } from '../run/run-folder.js';
import { Stats } from '../run/stats.js';
import type { LaterOutput, Resumable, StateInfo } from './checkpoint.js';
import { RunClock } from './clock.js';
import type { Evaluator } from './evaluator.js';
import type { TrainProgress } from './events.js';
import { LevelCounter } from './level-counts.js';
import type { UpdateSource } from './next-update.js';
import type { StepOptions, StepResult, TrainingState } from './step.js';
import type { Trackers } from './trackers.js';

/** What a run writes at its ticks, in words. */
export type Output = 'statistics' | 'state' | LaterOutput;

/** What a run is made of. */
export interface SessionParts {
  readonly options: TrainOptions;
  /** Length of the run in images. */
  readonly totalNimg: number;
  /** All images, the held-out ones included. */
  readonly dataset: DataSet;
  /** Labels of training images that samples are drawn with; null for all classes. */
  readonly labels: readonly Label[] | null;
  /** Images that training never sees, or null. */
  readonly heldOut: DataSet | null;
  /** Makes images of what a network for latents samples. */
  readonly decoder: LatentDecoder | null;
  /** The run folder; ranks beside the first have none. */
  readonly folder: RunFolder | null;
  readonly runDir: string;
  /** What other programs watch the run by, beside the folder. */
  readonly trackers: Trackers | null;
  /** Judges snapshots, where that is wanted. */
  readonly evaluator: Evaluator | null;
  /** The processes that train together, or null for one alone. */
  readonly ranks: Ranks | null;
  readonly resumable: Resumable;
  readonly updates: UpdateSource;
  readonly step: StepOptions;
  /** What was due with the state that the run is resumed from; an earlier process may not have written it. */
  readonly due?: StateInfo['due'];
  /** State file that the run was resumed from, or null. */
  readonly resumedFrom: string | null;
}

export class Session {
  readonly stats = new Stats();
  /** What could not be written when it was due. */
  readonly overdue = new Set<Output>();
  newestSnapshot: string | null = null;
  /** Warnings of evaluations, each of which is said once. */
  readonly said = new Set<string>();
  /** Relative gap of held-out and training loss at each evaluation of this session. */
  readonly lossGaps: number[] = [];
  /** An evaluation asks for the end of the run. */
  stopRequested = false;
  /** Updates with a non-finite gradient since the last tick. */
  nonFiniteSteps = 0;
  /** Whether all gradients since the last state were finite. */
  gradientsAreGood = true;

  /** Times in milliseconds of `performance.now()`. */
  tickStart = performance.now();
  lastSheetAt = this.tickStart;
  /** When a state and a snapshot were last written by the clock. */
  lastSaveAt = this.tickStart;
  /** Seconds of sampling and saving since the last tick. */
  maintenanceSec = 0;
  readonly clock: RunClock;
  /** Share of the planned time that the ranks agreed on after the last update; null in a process that works alone. */
  agreedTimeShare: number | null;
  readonly #startNimg: number;

  /** Patches by noise level since the tick before. */
  readonly levels = new LevelCounter();

  constructor(readonly parts: SessionParts) {
    this.#startNimg = this.state.nimg;
    this.clock = new RunClock(parts.options, parts.resumable.counters);
    this.agreedTimeShare = parts.ranks && this.clock.startShare();
  }

  get options(): TrainOptions {
    return this.parts.options;
  }

  get state(): TrainingState {
    return this.parts.resumable.state;
  }

  progress(): TrainProgress {
    const { step, nimg } = this.state;
    return { step, nimg, kimg: nimg / 1000, totalNimg: this.parts.totalNimg };
  }

  /** Whether the run has seen all of its images. */
  isDone(): boolean {
    return this.state.nimg >= this.parts.totalNimg;
  }

  /** Share of the run that is done, 0 … 1: by images or by time, whichever is further. */
  shareDone(): number {
    const byTime = this.agreedTimeShare ?? this.clock.share();
    return Math.min(Math.max(this.state.nimg / this.parts.totalNimg, byTime), 1);
  }

  /** Images per second of training, without sampling and saving, since this session began. */
  imagesPerSec(): number {
    return (this.state.nimg - this.#startNimg) / Math.max(this.clock.trainSec, 1e-9);
  }

  /** Seconds to the end of the run, by duration or time limit. */
  etaSec(): number {
    const rate = (this.state.nimg - this.#startNimg) / Math.max(this.clock.sessionSec, 1e-9);
    const byImages = Math.max(this.parts.totalNimg - this.state.nimg, 0) / Math.max(rate, 1e-9);
    return Math.min(byImages, this.clock.leftSec());
  }

  /** Adds an update to the statistics of the current tick. */
  record({ losses, gradNorm, lr, skipped }: StepResult): void {
    this.state.noise?.add(losses);
    this.levels.add(losses);
    for (const { patch, elements, sum, sumOfSquares } of losses) {
      this.stats.addLoss(patch, elements, sum, sumOfSquares);
    }
    this.stats.add('Progress/lr', lr);
    if (Number.isFinite(gradNorm)) this.stats.add('Progress/grad_norm', gradNorm);
    else if (!skipped) this.nonFiniteSteps += 1;
    const { lossScale } = this.state;
    if (lossScale) this.stats.add('Progress/loss_scale', lossScale.scale);
  }

  dispose(): void {
    this.parts.step.graphs?.dispose();
    disposeState(this.state);
    this.parts.decoder?.dispose();
  }
}

export function disposeState({ denoiser, ema, optimizer, powerAverages }: TrainingState): void {
  powerAverages?.dispose();
  denoiser.dispose();
  ema.dispose();
  optimizer.dispose();
}
