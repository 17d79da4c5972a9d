/**
 * The streams of random numbers of a run. What is drawn for the whole batch (positions, noise, augmentation) is drawn alike
 * by all ranks; dropout is drawn by each rank for its own images.
 */
import { createHash } from 'node:crypto';
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

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
  const hash = createHash('sha256').update(`dropout ${seed} ${step} ${rank}`).digest();
  torch.manualSeed(hash.readUInt32LE(0));
}
