/**
 * The streams of random numbers of a run. What is drawn for the whole batch (positions, noise, augmentation) is drawn alike
 * by all ranks; dropout is drawn by each rank for its own images.
 */
import { createHash } from 'node:crypto';
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { TorchRandom } from '../common/random-source.js';
import type { Candidates } from '../diffusion/immiscible.js';

/** Generators that all ranks draw from alike. */
export interface Generators {
  readonly cpu: torch.Generator;
  /** The same as `cpu` where the device is the CPU. */
  readonly device: torch.Generator;
}

/**
 * A process that works alone draws everything from libtorch's default generators, as the reference does. With several
 * ranks these are left to dropout, and copies of them draw what all ranks draw alike.
 */
export function makeGenerators(device: Device, isShared: boolean): Generators {
  const make = (name: Device) => {
    const own = torch.Generator.default(name);
    return isShared ? new torch.Generator(name).setState(own.getState()) : own;
  };
  const cpu = make('cpu');
  return { cpu, device: device === 'cpu' ? cpu : make(device) };
}

/** Lets dropout draw other numbers on each rank: they depend on seed, update and rank only, so that a run resumes exactly. */
export function seedDropout(seed: number, step: number, rank: number): void {
  torch.manualSeed(seedOf(`dropout ${seed} ${step} ${rank}`));
}

/**
 * Candidates for the noise of a run, of a stream of their own: they depend on seed, update and place in the batch only, so that
 * nothing of them has to be saved, and all other draws are those of a run without.
 */
export class CandidateStream {
  readonly #generator: torch.Generator;

  /** @param options.until share of the run from which noise and images are independent again */
  constructor(
    readonly options: {
      readonly count: number;
      readonly seed: number;
      readonly until: number;
      readonly device: Device;
    },
  ) {
    this.#generator = new torch.Generator(options.device);
  }

  /** Those of the next update, or null. */
  at(progress: number, step: number): Candidates | null {
    const { count, seed, until, device } = this.options;
    if (progress >= until) return null;
    this.#generator.manualSeed(seedOf(`candidates ${seed} ${step}`));
    return { count, random: new TorchRandom(device, this.#generator) };
  }
}

const seedOf = (name: string) => createHash('sha256').update(name).digest().readUInt32LE(0);
