/** Runs of seconds within the test's own process, and the bytes of their states. */
import { join } from 'node:path';
import { SafetensorsFile } from '@patch-diffusion/torch';
import { expect } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { newestState } from '../../src/run/runs.js';

/** Options of a run whose update takes a few hundredths of a second. */
export const tinyOptions = {
  preset: 'tiny',
  resolution: 16,
  modelChannels: 8,
  channelMult: [1, 2],
  attnResolutions: [8],
  batch: 8,
  samples: 2,
  sampleSteps: 2,
  maxImages: 64,
  seed: 7,
  threads: 1,
  device: 'cpu',
  nosubdir: true,
} satisfies TrainOptionsInput;

/** All tensors of a run's newest state, as bytes. */
export async function stateOf(run: string): Promise<Map<string, Uint8Array>> {
  return tensorsOf((await newestState(run)) ?? join(run, 'state'));
}

/** All tensors of a file, as bytes. */
export async function tensorsOf(path: string): Promise<Map<string, Uint8Array>> {
  const file = SafetensorsFile.openSync(path);
  const tensors = new Map(
    file.names.map((name) => {
      const values = file.tensor(name).toTypedArray();
      return [name, new Uint8Array(values.buffer, values.byteOffset, values.byteLength)];
    }),
  );
  await file.close();
  return tensors;
}

/** Bit for bit. */
export function expectSameState(a: Map<string, Uint8Array>, b: Map<string, Uint8Array>): void {
  expect([...a.keys()]).toEqual([...b.keys()]);
  for (const [name, bytes] of a) expect(Buffer.compare(bytes, b.get(name)!), name).toBe(0);
}
