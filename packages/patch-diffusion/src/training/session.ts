/**
 * What a training run holds while it runs: options, data, run folder, networks, random streams, clock and statistics.
 */
import type { TrainOptions } from '../config/train-options.js';
import type { DataSet } from '../data/types.js';
import type { Label } from '../diffusion/labels.js';
import type { LatentDecoder } from '../latents/latents.js';
import type { RunFolder } from '../run/run-folder.js';
import { Stats } from '../run/stats.js';
import type { LaterOutput, Resumable, StateInfo } from './checkpoint.js';
import type { TrainProgress } from './events.js';
import type { UpdateSource } from './next-update.js';
import type { StepOptions, StepResult, TrainingState } from './step.js';

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
  readonly folder: RunFolder;
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
  /** Updates with a non-finite gradient since the last tick. */
  nonFiniteSteps = 0;
  /** Whether all gradients since the last state were finite. */
  gradientsAreGood = true;

  /** Times in milliseconds of `performance.now()`. */
  tickStart = performance.now();
  lastSheetAt = this.tickStart;
  /** Seconds of updates in this session. */
  trainSec = 0;
  /** Seconds of sampling and saving since the last tick. */
  maintenanceSec = 0;
  readonly #start = this.tickStart;
  readonly #startNimg: number;
  /** {@link shareDone} when this session began. */
  readonly #startShare: number;

  constructor(readonly parts: SessionParts) {
    this.#startNimg = this.state.nimg;
    this.#startShare = Math.max(this.#imageShare(), parts.resumable.counters.timeShare);
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

  /**
   * Share of the run that is done, 0 … 1: by images (in whole kimg, as in the reference) or by time, whichever is
   * further. A session's time limit covers what was left of the run when the session began.
   */
  shareDone(): number {
    const { counters } = this.parts.resumable;
    const { maxSec } = this.options;
    if (maxSec !== null) {
      const elapsed = Math.min(this.sessionSec() / maxSec, 1);
      counters.timeShare = this.#startShare + (1 - this.#startShare) * elapsed;
    }
    return Math.max(this.#imageShare(), counters.timeShare);
  }

  #imageShare(): number {
    return (Math.floor(this.state.nimg / 1000) * 1000) / this.parts.totalNimg;
  }

  /** Seconds since this process began to train. */
  sessionSec(): number {
    return (performance.now() - this.#start) / 1000;
  }

  /** Seconds over all sessions of the run. */
  totalSec(): number {
    return this.parts.resumable.counters.earlierSec + this.sessionSec();
  }

  /** Images per second of training, without sampling and saving, since this session began. */
  imagesPerSec(): number {
    return (this.state.nimg - this.#startNimg) / Math.max(this.trainSec, 1e-9);
  }

  /** Seconds to the end of the run, by duration or time limit. */
  etaSec(): number {
    const rate = (this.state.nimg - this.#startNimg) / Math.max(this.sessionSec(), 1e-9);
    const byImages = Math.max(this.parts.totalNimg - this.state.nimg, 0) / Math.max(rate, 1e-9);
    const { maxSec } = this.options;
    return maxSec === null ? byImages : Math.min(byImages, Math.max(maxSec - this.sessionSec(), 0));
  }

  /** Adds an update to the statistics of the current tick. */
  record({ losses, gradNorm, lr, skipped }: StepResult): void {
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
    disposeState(this.state);
    this.parts.decoder?.dispose();
  }
}

export function disposeState({ denoiser, ema, optimizer }: TrainingState): void {
  denoiser.dispose();
  ema.dispose();
  optimizer.dispose();
}
