/** The sets of images that recipes are compared on. */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { TrainOptionsInput } from 'patch-diffusion';
import { runProgram } from './program.js';

/** A file of the user's, or faces that the command `avatars` draws. */
type Source =
  | {
      /** Environment variable that says where the file is. */
      readonly variable: string;
      /** Where it is in the shared folder. */
      readonly path: string;
    }
  | {
      /** Options of the command. */
      readonly avatars: readonly string[];
      /** What the file is called. */
      readonly file: string;
    };

export interface Bed {
  readonly summary: string;
  readonly source: Source;
  readonly options: TrainOptionsInput;
  /** What of 256 samples is measured, as for `evaluate --metrics`; `fd` by a classifier of the set's classes. */
  readonly metrics: NonNullable<TrainOptionsInput['evalMetrics']>;
}

/** Images that no run trains on; the seed chooses them, so that all recipes of a seed have the same. */
export const HELD_OUT = 256;

const SHARED = process.env.SHARED_DIR ?? '../shared';

/** The network of the preset `small`. */
const small = { attnResolutions: [16], modelChannels: 64, numBlocks: 2 } satisfies TrainOptionsInput;

const full = {
  'avatars-16': {
    summary: '5,000 pixel-art faces, 16 × 16, drawn by `avatars`',
    source: { avatars: ['--count=5000', '--labels'], file: 'avatars-16-labels.zip' },
    options: { cond: false, attnResolutions: [8] },
    metrics: ['fd', 'avatars', 'memorisation'],
  },
  'fashion-32': {
    summary: 'Fashion-MNIST, 60,000 pieces of clothing, 32 × 32, grey',
    source: { variable: 'FASHION_MNIST', path: 'data/fashion-mnist/train-images-idx3-ubyte.gz' },
    options: { resolution: 32, cond: false },
    metrics: ['fd', 'swd'],
  },
  'cats-32': {
    summary: '4,303 faces of cats, 32 × 32',
    source: { variable: 'CATS', path: 'data/cats-64x64.zip' },
    options: { resolution: 32, cond: false },
    metrics: ['swd'],
  },
  'peeps-64': {
    summary: '5,000 drawn faces in colour (Open Peeps), 64 × 64, drawn by `avatars`',
    source: {
      avatars: ['--style=open-peeps', '--resolution=64', '--count=5000', '--labels'],
      file: 'peeps-64-labels.zip',
    },
    options: { resolution: 64, cond: false, attnResolutions: [16] },
    metrics: ['fd', 'swd'],
  },
  'cats-64': {
    summary: '5,000 faces of cats, 64 × 64',
    source: { variable: 'CATS', path: 'data/cats-64x64.zip' },
    options: { resolution: 64, cond: false, attnResolutions: [16] },
    metrics: ['swd'],
  },
  'cats-64-small': {
    summary: '5,000 faces of cats, 64 × 64; the network of the preset `small` (7 million weights)',
    source: { variable: 'CATS', path: 'data/cats-64x64.zip' },
    options: { resolution: 64, cond: false, ...small },
    // No classes, so no Fréchet distance; and samples take as long as the training between them.
    metrics: [],
  },
  'peeps-64-small': {
    summary: '5,000 drawn faces in colour (Open Peeps), 64 × 64; the network of the preset `small`',
    source: {
      avatars: ['--style=open-peeps', '--resolution=64', '--count=5000', '--labels'],
      file: 'peeps-64-labels.zip',
    },
    options: { resolution: 64, cond: false, ...small },
    metrics: ['fd', 'swd'],
  },
  'fashion-32-small': {
    summary: 'Fashion-MNIST, 32 × 32; the network of the preset `small`',
    source: { variable: 'FASHION_MNIST', path: 'data/fashion-mnist/train-images-idx3-ubyte.gz' },
    options: { resolution: 32, cond: false, ...small },
    metrics: ['fd', 'swd'],
  },
  'cifar10-32': {
    summary: 'CIFAR-10, 32 × 32, without labels',
    source: { variable: 'CIFAR10', path: 'data/cifar10-32x32.zip' },
    options: { cond: false },
    metrics: ['fd', 'swd'],
  },
} satisfies Record<string, Bed>;

/** So few images that networks can learn them by heart. */
function part(name: keyof typeof full, images: number): Readonly<Record<string, Bed>> {
  const bed: Bed = full[name];
  return {
    [`${name}-n${images}`]: {
      ...bed,
      summary: `${images} images to train on, of: ${bed.summary}`,
      options: { ...bed.options, maxImages: images + HELD_OUT },
      metrics: [...new Set([...bed.metrics, 'memorisation' as const])],
    },
  };
}

export const beds: Readonly<Record<string, Bed>> = {
  ...full,
  ...part('avatars-16', 500),
  ...part('avatars-16', 2000),
  ...part('cats-32', 500),
  ...part('cats-32', 2000),
  ...part('fashion-32', 500),
  ...part('fashion-32', 2000),
};

/** The whole sets whose file is there or can be made. */
export const presentBeds = (): string[] =>
  Object.keys(full).filter((name) => {
    const { source } = beds[name];
    return 'avatars' in source || existsSync(place(source));
  });

/** Variables that say where files are. */
export const bedVariables: readonly string[] = Object.values<Bed>(full).flatMap(({ source }) =>
  'avatars' in source ? [] : [source.variable],
);

/**
 * The file of a set, which is drawn where it is not there yet.
 * @param work folder for what is drawn
 * @throws Error saying which variable to set, when a file is not there
 */
export async function fileOf(name: string, work: string, signal: AbortSignal): Promise<string> {
  const { source } = beds[name];
  if (!('avatars' in source)) {
    const file = place(source);
    if (existsSync(file)) return file;
    throw new Error(`--bed ${name}: ${file} is not there; set ${source.variable} to the file`);
  }
  const file = join(work, source.file);
  if (existsSync(file)) return file;
  await mkdir(work, { recursive: true });
  const error = await runProgram(['avatars', `--out=${file}`, ...source.avatars], signal);
  if (error !== null) throw new Error(`--bed ${name}: the faces were not drawn: ${error}`);
  return file;
}

const place = ({ variable, path }: Exclude<Source, { readonly avatars: unknown }>): string =>
  process.env[variable] ?? join(SHARED, path);
