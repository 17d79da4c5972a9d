/** Where the shared images and reference vectors lie; tests that need them are skipped when they are absent. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const repositoryRoot = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');

export const sharedDir = process.env.SHARED_DIR ?? resolve(repositoryRoot, '../shared');
export const goldenDir = process.env.GOLDEN_DIR ?? join(sharedDir, 'golden');
export const dataDir = join(sharedDir, 'data');

/** True when `path` exists; otherwise says once what is skipped, and why. */
export function available(path: string): boolean {
  const found = existsSync(path);
  if (!found) console.warn(`skipped: no ${path} (set SHARED_DIR or GOLDEN_DIR)`);
  return found;
}

export interface PlainTensor {
  dtype: string;
  shape: number[];
  bytes: Uint8Array;
  /** Values as numbers, for the types U8, I64 and F32. */
  values: number[];
}

/** Reads a small safetensors file without libtorch. */
export function readPlainSafetensors(path: string): { tensors: Map<string, PlainTensor>; config: unknown } {
  const file = readFileSync(path);
  const headerLength = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerLength)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const metadata = header.__metadata__ as unknown as { config?: string } | undefined;
  const tensors = new Map<string, PlainTensor>();
  for (const [name, { dtype, shape, data_offsets: offsets }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const bytes = Uint8Array.from(
      file.subarray(8 + headerLength + offsets[0], 8 + headerLength + offsets[1]),
    );
    tensors.set(name, { dtype, shape, bytes, values: toNumbers(dtype, bytes) });
  }
  return { tensors, config: metadata?.config === undefined ? undefined : JSON.parse(metadata.config) };
}

function toNumbers(dtype: string, bytes: Uint8Array): number[] {
  if (dtype === 'I64') return Array.from(new BigInt64Array(bytes.buffer), Number);
  if (dtype === 'F32') return Array.from(new Float32Array(bytes.buffer));
  return Array.from(bytes);
}
