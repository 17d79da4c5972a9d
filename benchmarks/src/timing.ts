/** Clocks and the few statistics that the reports use. */
import * as torch from '@patch-diffusion/torch';

/** Seconds of something measured. */
export interface StepSeconds {
  readonly wall: number;
  /** Processor time of all threads together. */
  readonly cpu: number;
}

/** Seconds on a monotonic clock, after everything enqueued on the device is done. */
export function now(device: string): number {
  if (device !== 'cpu') torch.synchronize(device);
  return performance.now() / 1000;
}

/** The clock that comparisons are judged by: a GPU's work shows on the wall only. */
export function clockOf(device: string): keyof StepSeconds {
  return device === 'cpu' ? 'cpu' : 'wall';
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Median and the middle half: what a noisy machine can be quoted with. */
export interface Spread {
  readonly median: number;
  readonly q1: number;
  readonly q3: number;
}

export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number): number => sorted[Math.round(share * (sorted.length - 1))];
  return { median: median(values), q1: at(0.25), q3: at(0.75) };
}
