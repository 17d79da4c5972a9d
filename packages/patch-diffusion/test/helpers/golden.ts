/** Reading the reference vectors, and comparing tensors with the tolerances that their README states. */
import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { type Module, SafetensorsFile, type Tensor } from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import type { RandomSource } from '../../src/common/random-source.js';
import { sharedDir } from './shared.js';

export const goldenDir = process.env.GOLDEN_DIR ?? join(sharedDir, 'golden');

/** Where the tensors of vectors lie and networks compute; what is compared exactly on a CPU is so elsewhere, too. */
export const device = process.env.GOLDEN_DEVICE ?? 'cpu';

/** Tolerances are those of a CPU; the kernels of a GPU add up in other orders and in larger blocks. */
const SLACK = device === 'cpu' ? 1 : 5;

/** A network that was just made, on the device of the vectors. */
export function onDevice<M extends Module>(module: M): M {
  return device === 'cpu' ? module : module.to({ device });
}

/** One file of vectors. */
export interface Golden<C> {
  readonly name: string;
  readonly config: C;
  readonly file: SafetensorsFile;
  /** The tensor of that name; a missing one is an error. */
  tensor(name: string): Tensor;
  has(name: string): boolean;
  /** All tensors below a prefix, by the rest of their names. */
  group(prefix: string): Map<string, Tensor>;
}

export function openGolden<C>(path: string): Golden<C> {
  const file = SafetensorsFile.openSync(path);
  const tensor = (name: string): Tensor => {
    const stored = file.tensor(name);
    return device === 'cpu' ? stored : stored.to({ device });
  };
  return {
    name: basename(path, '.safetensors'),
    config: JSON.parse(file.metadata.config ?? '{}') as C,
    file,
    tensor,
    has: (name) => file.has(name),
    group: (prefix) =>
      new Map(
        file.names
          .filter((name) => name.startsWith(prefix))
          .map((name) => [name.slice(prefix.length), tensor(name)]),
      ),
  };
}

/** The safetensors files of a folder of vectors; none without the folder. */
export function goldenFiles(folder: string): string[] {
  const dir = join(goldenDir, folder);
  return existsSync(dir) ? readdirSync(dir).filter((name) => name.endsWith('.safetensors')) : [];
}

/** Stands for the tests of a folder that has none: says so in the report. */
export function describeAbsent(folder: string, what = 'vectors'): void {
  const message = `skipped, no ${what} in ${join(goldenDir, folder)} (set SHARED_DIR or GOLDEN_DIR)`;
  console.warn(message);
  describe.skip(`golden/${folder}: ${message}`, () => it(`needs ${what}`, () => {}));
}

/**
 * One test for each file of a folder of vectors, whatever their names. Without files the suite is skipped and says so.
 * @param kinds of files that `test` knows; any other fails
 */
export function describeGolden<C>(
  folder: string,
  kinds: readonly string[],
  test: (golden: Golden<C>) => void | Promise<void>,
): void {
  const files = goldenFiles(folder);
  if (files.length === 0) {
    describeAbsent(folder);
    return;
  }
  describe(`golden/${folder}`, () => {
    it.each(files.map((name) => [basename(name, '.safetensors'), name]))('%s', async (_, name) => {
      const golden = openGolden<C>(join(goldenDir, folder, name));
      try {
        expect(kinds, 'kinds of vectors that the tests know').toContain(
          (golden.config as { kind?: unknown }).kind,
        );
        await test(golden);
      } finally {
        golden.file.close();
      }
    });
  });
}

/** Largest absolute value and largest difference of two tensors, in float64. */
export function difference(actual: Tensor, expected: Tensor): { max: number; scale: number } {
  expect(actual.shape).toEqual(expected.shape);
  if (expected.numel === 0) return { max: 0, scale: 0 };
  return torch.noGrad(() =>
    torch.scope(() => {
      const [a, b] = [actual, expected].map((t) => t.detach().to({ dtype: 'float64', device: 'cpu' }));
      return { max: a.sub(b).abs().max().item(), scale: b.abs().max().item() };
    }),
  );
}

/** Fails unless max|actual − expected| ≤ relative · max|expected| + absolute; on a GPU, five times that. */
export function expectClose(
  actual: Tensor,
  expected: Tensor,
  relative: number,
  absolute = 0,
  what = '',
): void {
  const { max, scale } = difference(actual, expected);
  const bound = (relative * scale + absolute) * SLACK;
  expect(max, `${what}: largest difference, with a bound of ${bound}`).toBeLessThanOrEqual(bound);
}

/** Answers each draw with the recorded one of the same name. */
export function replay(draws: ReadonlyMap<string, Tensor>, used: string[] = []): RandomSource {
  const take = (name: string, shape: readonly number[]): Tensor => {
    const value = draws.get(name);
    if (!value) throw new Error(`no recorded draw "${name}"; there are ${[...draws.keys()].join(', ')}`);
    expect(value.shape, `shape of the draw ${name}`).toEqual([...shape]);
    used.push(name);
    return value;
  };
  return { rand: take, randn: take, randint: (name, _low, _high, shape) => take(name, shape) };
}
