/** The sets of images that recipes are compared on. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { TrainOptionsInput } from 'patch-diffusion';

export interface Bed {
  readonly summary: string;
  /** Environment variable that says where the file is. */
  readonly variable: string;
  /** Where it is in the shared folder. */
  readonly path: string;
  readonly options: TrainOptionsInput;
}

const SHARED = process.env.SHARED_DIR ?? '../shared';

export const beds: Readonly<Record<string, Bed>> = {
  'fashion-32': {
    summary: 'Fashion-MNIST, 60,000 pieces of clothing, 32 × 32, grey',
    variable: 'FASHION_MNIST',
    path: 'data/fashion-mnist/train-images-idx3-ubyte.gz',
    options: { resolution: 32, cond: false },
  },
  'cats-32': {
    summary: '4,303 faces of cats, 32 × 32',
    variable: 'CATS',
    path: 'data/cats-64x64.zip',
    options: { resolution: 32, cond: false },
  },
  'cifar10-32': {
    summary: 'CIFAR-10, 32 × 32, without labels',
    variable: 'CIFAR10',
    path: 'data/cifar10-32x32.zip',
    options: { cond: false },
  },
};

/** The sets whose file is there. */
export const presentBeds = (): string[] => Object.keys(beds).filter((name) => existsSync(place(beds[name])));

/** @throws Error saying which variable to set, when the file is not there */
export function fileOf(name: string): string {
  const file = place(beds[name]);
  if (existsSync(file)) return file;
  throw new Error(`--bed ${name}: ${file} is not there; set ${beds[name].variable} to the file`);
}

const place = ({ variable, path }: Bed): string => process.env[variable] ?? join(SHARED, path);
