/**
 * What a training run holds while it runs: the run folder, the networks, the random streams, the clock.
 */
import type { TrainOptions } from '../config/train-options.js';
import type { DataSet } from '../data/types.js';
import { writeSnapshot } from '../interchange/snapshot.js';
import type { LatentDecoder } from '../latents/latents.js';
import type { RunFolder } from '../run/run-folder.js';
import { Stats } from '../run/stats.js';
import { type LoopCounters, type Resumable, writeTrainingState } from './checkpoint.js';
import type { TrainProgress } from './events.js';
import type { RoundsOptions } from './rounds.js';
import type { StepOptions, StepResult, TrainingState } from './step.js';

/** Seconds of this session, split by what they were spent on since the last tick. */
interface Timing {
  readonly sessionStart: number;
  tickStart: number;
  trainSec: number;
  maintenanceSec: number;
  lastSamplesAt: number;
}

/** What a run writes at its ticks, in words. */
export type Output = 'statistics' | 'state' | 'snapshot' | 'sample sheet';

/** What a session is given; the rest it keeps by itself. */
type SessionParts = Pick<
  Session,
  'options' | 'totalNimg' | 'images' | 'folder' | 'resumable' | 'heldOut' | 'rounds' | 'step' | 'decoder'
>;

export class Session {
  readonly options: TrainOptions;
  readonly totalNimg: number;
  readonly images: DataSet;
  readonly folder: RunFolder;
  readonly resumable: Resumable;
  /** Images that training never sees, or null. */
  readonly heldOut: DataSet | null;
  readonly rounds: RoundsOptions;
  readonly step: StepOptions;
  /** Makes images of what a network for latents samples. */
  readonly decoder: LatentDecoder | null;

  readonly stats = new Stats();
  readonly timing: Timing;
  /** What could not be written when it was due. */
  readonly overdue = new Set<Output>();
  newestSnapshot: string | null = null;
  nonFiniteSteps = 0;
  readonly #startNimg: number;

  constructor(parts: SessionParts) {
    this.options = parts.options;
    this.totalNimg = parts.totalNimg;
    this.images = parts.images;
    this.folder = parts.folder;
    this.resumable = parts.resumable;
    this.heldOut = parts.heldOut;
    this.rounds = parts.rounds;
    this.step = parts.step;
    this.decoder = parts.decoder;
    const now = performance.now();
    this.timing = { sessionStart: now, tickStart: now, trainSec: 0, maintenanceSec: 0, lastSamplesAt: now };
    this.#startNimg = parts.resumable.state.nimg;
  }

  get state(): TrainingState {
    return this.resumable.state;
  }

  get counters(): LoopCounters {
    return this.resumable.counters;
  }

  get device(): string {
    return this.resumable.device;
  }

  progress(): TrainProgress {
    const { step, nimg } = this.state;
    return { step, nimg, kimg: nimg / 1000, totalNimg: this.totalNimg };
  }

  /** f of the progressive schedule, 0 … 1. */
  shareDone(): number {
    return (Math.floor(this.state.nimg / 1000) * 1000) / this.totalNimg;
  }

  /** Seconds since this process began to train. */
  sessionSec(): number {
    return (performance.now() - this.timing.sessionStart) / 1000;
  }

  /** Seconds over all sessions of the run. */
  totalSec(): number {
    return this.counters.earlierSec + this.sessionSec();
  }

  /** Accounted images per second of training, without sampling and saving, since this session began. */
  imagesPerSec(): number {
    return (this.state.nimg - this.#startNimg) / Math.max(this.timing.trainSec, 1e-9);
  }

  /** Seconds to the end of the run, by duration or time limit. */
  etaSec(): number {
    const rate = (this.state.nimg - this.#startNimg) / Math.max(this.sessionSec(), 1e-9);
    const byImages = Math.max(this.totalNimg - this.state.nimg, 0) / Math.max(rate, 1e-9);
    const { maxSec } = this.options;
    return maxSec === null ? byImages : Math.min(byImages, Math.max(maxSec - this.sessionSec(), 0));
  }

  /** Adds an update to the statistics of the current tick. */
  record({ rounds, gradNorm, lr, skipped }: StepResult): void {
    for (const { patch, elements, lossSum, lossSquares } of rounds) {
      this.stats.addLoss(patch, elements, lossSum, lossSquares);
    }
    this.stats.add('Progress/lr', lr);
    if (Number.isFinite(gradNorm)) this.stats.add('Progress/grad_norm', gradNorm);
    else if (!skipped) this.nonFiniteSteps += 1;
    const { lossScale } = this.state;
    if (lossScale) this.stats.add('Progress/loss_scale', lossScale.scale);
  }

  /** Writes a snapshot of the averaged weights. */
  async saveSnapshot(): Promise<string> {
    const file = this.folder.file('snapshots', `network-snapshot-${this.stamp()}.safetensors`);
    const { options, images, state } = this;
    await writeSnapshot(file, state.ema, {
      loss: this.step.loss,
      train: options,
      dataset: { name: images.name, classNames: images.classNames },
      latents: images.latents,
      nimg: state.nimg,
      step: state.step,
    });
    this.newestSnapshot = file;
    return file;
  }

  /** Writes the complete state. */
  async saveState(): Promise<string> {
    const file = this.folder.file('state', `training-state-${this.stamp()}.safetensors`);
    const counters = { ...this.counters, earlierSec: this.totalSec() };
    await writeTrainingState(file, { ...this.resumable, counters });
    return file;
  }

  /** The number in the names of its files, in kimg. */
  stamp(): string {
    return String(Math.floor(this.state.nimg / 1000)).padStart(6, '0');
  }

  dispose(): void {
    this.state.denoiser.dispose();
    this.state.ema.dispose();
    this.state.optimizer.dispose();
    this.decoder?.dispose();
  }
}
