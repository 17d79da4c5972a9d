/**
 * Turning latents (Rombach et al. 2022) back into images. Scaled as the reference does, latent = (code − shift) · scale.
 */
import { setImmediate } from 'node:timers/promises';
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { LatentInfo } from '../data/types.js';
import { toUint8 } from '../diffusion/sample.js';
import { type AutoencoderKL, encodeBatchSize } from '../networks/autoencoder-kl.js';
import { loadAutoencoder } from './autoencoder-folder.js';

/**
 * The pixels of sampled images, or of latents once they are decoded.
 * @param samples [N, C, H, W] as sampled; disposed
 * @returns uint8 [N, C, H, W] and that shape
 */
export async function toPixels(
  samples: Tensor,
  decoder: LatentDecoder | null,
  signal?: AbortSignal,
): Promise<{ pixels: Uint8Array; shape: readonly [N: number, C: number, H: number, W: number] }> {
  using latents = samples;
  if (!decoder) return { pixels: toUint8(latents), shape: shapeOf(latents) };
  using images = await decoder.decode(latents, signal);
  return { pixels: toUint8(images), shape: shapeOf(images) };
}

const shapeOf = ({ shape }: Tensor) => shape as [number, number, number, number];

/** Turns latents into images, a few at a time. */
export class LatentDecoder {
  readonly #autoencoder: AutoencoderKL;
  readonly #info: LatentInfo;

  private constructor(autoencoder: AutoencoderKL, info: LatentInfo) {
    this.#autoencoder = autoencoder;
    this.#info = info;
  }

  /**
   * Loads the autoencoder that made the latents, or another one of the same shape. The caller disposes the decoder.
   * @param folder overrides the recorded one
   * @throws UserError when it is not there or does not fit; the message names `--autoencoder`
   */
  static async open(
    info: LatentInfo,
    folder: string | null,
    channels: number,
    device: Device,
  ): Promise<LatentDecoder> {
    const autoencoder = await loadAutoencoder(folder ?? info.autoencoder.path, device).catch(
      (error: unknown) => {
        if (folder !== null || !(error instanceof UserError) || error.code !== 'NO_AUTOENCODER') throw error;
        throw new UserError(
          'NO_AUTOENCODER',
          `the autoencoder of these latents is no longer in ${info.autoencoder.path}; say where it is with --autoencoder FOLDER`,
          { cause: error },
        );
      },
    );
    const { config, downFactor } = autoencoder;
    if (config.latentChannels === channels && downFactor === info.downFactor)
      return new LatentDecoder(autoencoder, info);
    autoencoder.dispose();
    throw new UserError(
      'AUTOENCODER_MISMATCH',
      `the autoencoder in ${folder ?? info.autoencoder.path} has ${config.latentChannels} channels at 1/${downFactor} of the side, ` +
        `the latents ${channels} at 1/${info.downFactor}; use the one that they were made with`,
      { exitCode: 2 },
    );
  }

  /** Image side / latent side. */
  get downFactor(): number {
    return this.#info.downFactor;
  }

  /** The autoencoder; it goes with the decoder. */
  get module(): AutoencoderKL {
    return this.#autoencoder;
  }

  /** Like {@link decode}, all at once. */
  decodeBatch(latents: Tensor): Tensor {
    const { scale, shift } = this.#info;
    return torch.noGrad(() =>
      torch.scope(() => {
        const codes = latents.div(scale);
        return this.#autoencoder.decode((shift === 0 ? codes : codes.add(shift)).to({ dtype: 'float32' }));
      }),
    );
  }

  /**
   * @param latents scaled, [N, C, h, w]; stays the caller's
   * @returns float32 [N, 3, H, W], roughly in [−1, 1]; the caller disposes it
   */
  async decode(latents: Tensor, signal?: AbortSignal): Promise<Tensor> {
    const { downFactor } = this.#info;
    const [N, , h, w] = latents.shape as [number, number, number, number];
    const step = encodeBatchSize({ height: h * downFactor, width: w * downFactor });
    const parts: Tensor[] = [];
    try {
      for (let start = 0; start < N; start += step) {
        signal?.throwIfAborted();
        const part = torch.scope(() => this.decodeBatch(latents.narrow(0, start, Math.min(step, N - start))));
        parts.push(part);
        await setImmediate();
      }
      return torch.cat(parts, 0);
    } finally {
      for (const part of parts) part.dispose();
    }
  }

  dispose(): void {
    this.#autoencoder.dispose();
  }
}
