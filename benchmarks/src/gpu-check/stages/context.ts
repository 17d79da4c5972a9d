/** What every stage gets, and the sizes that suit a device. */
import type { PresetName } from 'patch-diffusion';
import type { Emit } from '../results.js';

export interface StageContext {
  /** `cuda`, or `cpu` to try the check itself. */
  readonly device: string;
  readonly emit: Emit;
}

export type StageWork = (context: StageContext) => Promise<void>;

/** What is trained and timed. `small` is DDPM++ with 64 channels at 64 px; a CPU only shows that the check runs. */
export interface Sizes {
  readonly preset: PresetName;
  /** Images per full-size step. */
  readonly batch: number;
  /** Images sampled at a time. */
  readonly sampleBatch: number;
  readonly repeats: number;
  /** Updates at each patch size. */
  readonly updates: number;
}

export function sizesFor(device: string): Sizes {
  return device === 'cpu'
    ? { preset: 'tiny', batch: 2, sampleBatch: 2, repeats: 1, updates: 1 }
    : { preset: 'small', batch: 256, sampleBatch: 64, repeats: 5, updates: 10 };
}
