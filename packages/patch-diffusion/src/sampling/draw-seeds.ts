/** Images of some seeds, as bytes that one rank gives to another. */
import type { Device } from '@patch-diffusion/torch';
import type { GenerateOptions } from '../config/generate-options.js';
import type { Guidance } from '../diffusion/guidance.js';
import type { Label } from '../diffusion/labels.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { sampleImages } from '../diffusion/sample.js';
import { type LatentDecoder, toPixels } from '../latents/latents.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import { samplerSettings, windowOf } from './settings.js';

/** What images are drawn with. */
export interface Model {
  readonly denoiser: Denoiser;
  readonly info: SnapshotInfo;
  readonly decoder: LatentDecoder | null;
  readonly guidance: Guidance | null;
  /** What is drawn from; null for all classes. */
  readonly labels: readonly Label[] | null;
  readonly device: Device;
}

/** Images of one size. */
export interface Drawn {
  /** uint8 [N, C, H, W] */
  readonly pixels: Uint8Array;
  readonly size: readonly [C: number, H: number, W: number];
  /** One for each; empty for a network without labels. */
  readonly labels: readonly Label[];
}

interface DrawContext {
  readonly signal: AbortSignal | undefined;
  readonly onStep?: (step: number) => void;
}

/** @returns what {@link unpackDrawn} reads; of no seeds, no bytes */
export async function drawSeeds(
  options: GenerateOptions,
  { denoiser, info, decoder, guidance, labels, device }: Model,
  seeds: readonly number[],
  { signal, onStep }: DrawContext,
): Promise<Uint8Array> {
  if (seeds.length === 0) return new Uint8Array(0);
  const { noise, stateDtype } = options;
  let drawnLabels: readonly Label[] = [];
  const samples = await sampleImages(denoiser, {
    ...samplerSettings(options, info),
    window: windowOf(options, denoiser, decoder?.downFactor ?? 1),
    ...{ seeds, labels, guidance, noise, stateDtype, device, signal },
    onLabels: (drawn) => {
      drawnLabels = drawn;
    },
    onStep: async (step) => {
      onStep?.(step);
      await new Promise(setImmediate);
    },
  });
  const { pixels, shape } = await toPixels(samples, decoder, signal);
  const [, ...size] = shape;
  return packDrawn({ pixels, size, labels: drawnLabels });
}

/** The length of the description, the description as JSON, then the pixels. */
function packDrawn({ pixels, ...description }: Drawn): Uint8Array {
  const json = Buffer.from(JSON.stringify(description));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(json.length);
  return Buffer.concat([length, json, pixels]);
}

export function unpackDrawn(bytes: Uint8Array): Drawn {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = 4 + buffer.readUInt32LE(0);
  const description = JSON.parse(buffer.toString('utf8', 4, end)) as Omit<Drawn, 'pixels'>;
  return { ...description, pixels: buffer.subarray(end) };
}
