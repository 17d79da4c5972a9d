/**
 * `prepare --latents`: encodes every image once (the reference does so at every use) and stores the distribution of
 * its code. Images go through in small batches and are written as they come, so memory stays bounded.
 */

import { resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { withMemoryGuard } from '../common/memory.js';
import type { PrepareOptions } from '../config/prepare-options.js';
import { compareOptions } from '../config/same-options.js';
import { UnusableImage } from '../data/decode.js';
import { allFinite } from '../data/finite.js';
import type { ImageSource } from '../data/image-source.js';
import { LATENTS_FORMAT_VERSION, type LatentFileInfo } from '../data/latents.js';
import { sortSkipped } from '../data/names.js';
import { transformedSize } from '../data/transform.js';
import type { Size } from '../data/types.js';
import { nothingUsable } from '../data/unusable.js';
import type { Label } from '../diffusion/labels.js';
import { blockFor, computeTogether, dismiss, help } from '../distributed/crew.js';
import type { Ranks } from '../distributed/ranks.js';
import { autoencoderHash, loadAutoencoder } from '../latents/autoencoder-folder.js';
import { type AutoencoderKL, encodeBatchSize } from '../networks/autoencoder-kl.js';
import { LatentWriter } from './latent-writer.js';
import { type Listeners, makePlan, type Plan, type Prepared, preparedImages } from './prepare-plan.js';

/** Skipped files that the file names, as far as its header has room. */
const SKIPPED_LISTED = 20;

/** What {@link prepareLatents} made; the sizes are those of the latents. */
export interface LatentReport {
  readonly plan: Plan;
  readonly used: number;
  readonly width: number;
  readonly height: number;
  readonly channels: number;
  readonly bytes: number;
  /** Standard deviation of the scaled latents. */
  readonly std: number;
}

/**
 * Encodes the images of a source into a file of latents. Nothing is left behind on failure or when aborted.
 *
 * @throws UserError for everything the user can fix; the signal's reason when aborted
 */
export async function prepareLatents(
  source: ImageSource,
  settings: PrepareOptions,
  device: Device,
  listeners: Listeners & { readonly ranks: Ranks | null },
): Promise<LatentReport> {
  const folder = settings.autoencoder!; // checked with the options
  const autoencoder = await loadAutoencoder(folder, device);
  try {
    const { inChannels } = autoencoder.config;
    const channels = inChannels === 1 ? 1 : 3;
    const sha256 = await autoencoderHash(folder);
    if (listeners.ranks) await compareOptions(listeners.ranks, { autoencoder: sha256 }, []);
    const plan = await makePlan(source, { ...settings, channels }, listeners);
    const image = transformedSize(settings.transform, plan.size);
    checkSides(image, autoencoder.downFactor);
    const draft = {
      kind: 'latents' as const,
      formatVersion: LATENTS_FORMAT_VERSION,
      autoencoder: { path: resolve(folder), sha256 },
      scale: autoencoder.config.scalingFactor,
      shift: autoencoder.config.shiftFactor,
      downFactor: autoencoder.downFactor,
      image: { height: image.height, width: image.width, channels },
      labelDim: plan.labels?.dim ?? 0,
      classNames: plan.labels?.classNames ? [...plan.labels.classNames] : null,
    };
    const writer = await LatentWriter.create(settings.out, draft, { force: settings.force });
    try {
      return await withMemoryGuard('lower --encode-batch or --resolution', () =>
        encodeAll(source, plan, autoencoder, writer, draft, device, listeners),
      );
    } catch (error) {
      await writer.discard();
      throw error;
    }
  } finally {
    autoencoder.dispose();
  }
}

function checkSides({ width, height }: Size, factor: number): void {
  if (width % factor === 0 && height % factor === 0) return;
  const near = (side: number) => Math.max(1, Math.round(side / factor)) * factor;
  const remedy = width === height ? `${near(width)}` : `${near(width)}x${near(height)}`;
  throw new UserError(
    'BAD_RESOLUTION',
    `images of ${width}×${height} px cannot be encoded: the autoencoder divides both sides by ${factor}; use --resolution ${remedy}`,
    { exitCode: 2 },
  );
}

/** The description before the images have been seen. */
type Draft = Omit<LatentFileInfo, 'source' | 'std' | 'channelStd'>;

async function encodeAll(
  source: ImageSource,
  plan: Plan,
  autoencoder: AutoencoderKL,
  writer: LatentWriter,
  draft: Draft,
  device: Device,
  { onProgress, signal, ranks }: Listeners & { readonly ranks: Ranks | null },
): Promise<LatentReport> {
  const { settings } = plan;
  const size = { height: draft.image.height, width: draft.image.width };
  const { latentChannels } = autoencoder.config;
  const [height, width] = [size.height / autoencoder.downFactor, size.width / autoencoder.downFactor];
  const copies = settings.xflip ? 2 : 1;
  const atOnce = settings.encodeBatch ?? encodeBatchSize(size);
  const { block, round } = blockFor(ranks, plan.entries.length, atOnce);
  const what: EncodeTask = { ...size, channels: draft.image.channels, xflip: settings.xflip };
  const spread = new Spread(latentChannels);
  const labels: Label[] = [];
  let batch: Prepared[] = [];
  let position = 0;
  const flush = async () => {
    signal?.throwIfAborted();
    if (batch.length === 0) return;
    const task = { what, count: batch.length, block, data: Buffer.concat(batch.map(({ data }) => data)) };
    const parts = await computeTogether(ranks, signal, task, (_, range, { data }) =>
      encodeRange(autoencoder, data, what, range, device),
    );
    const moments = torch.tensor(floatsOf(Buffer.concat(parts)), {
      shape: [batch.length, copies, 2, latentChannels, height, width],
    });
    try {
      const values = torch.scope(() => moments.to({ dtype: settings.latentDtype }).toTypedArray());
      const record = values.byteLength / batch.length;
      const bytesOf = (from: number, count: number) =>
        new Uint8Array(values.buffer, values.byteOffset + from * record, count * record);
      const keep = async (from: number, count: number) => {
        // In blocks: the sums are then rounded alike however many ranks encode.
        for (let at = from; at < from + count; at += block) {
          const part = Math.min(block, from + count - at);
          torch.scope(() => spread.add(moments.narrow(0, at, part), draft));
        }
        await writer.add(bytesOf(from, count), count);
        for (const { entry } of batch.slice(from, from + count))
          if (plan.labels) labels.push(plan.labels.values[entry]);
      };
      let from = 0;
      for (const [i, { entry }] of batch.entries()) {
        if (allFinite(bytesOf(i, 1), settings.latentDtype)) continue;
        plan.skip(source.names[entry], new UnusableImage('its latents have NaN or infinite values'));
        if (i > from) await keep(from, i - from);
        from = i + 1;
      }
      if (batch.length > from) await keep(from, batch.length - from);
    } finally {
      moments.dispose();
    }
    batch = [];
    onProgress?.(position, plan.entries.length, 'encode');
    await setImmediate();
  };
  for await (const item of preparedImages(source, plan, 'pixels', signal)) {
    batch.push(item);
    position = item.position + 1;
    if (batch.length === round) await flush();
  }
  await flush();
  await dismiss(ranks);
  if (spread.images === 0) throw nothingUsable(source.path, plan.skipped);
  const { std, channelStd } = spread;
  const info = {
    ...draft,
    source: {
      path: resolve(source.path),
      skipped: sortSkipped([...plan.skipped]).slice(0, SKIPPED_LISTED),
      skippedCount: plan.skipped.length,
    },
    std,
    channelStd,
  } as LatentFileInfo;
  const shape = [copies, 2, latentChannels, height, width] as const;
  const bytes = await writer.finish(
    info,
    { dtype: settings.latentDtype, shape },
    plan.labels ? labels : null,
  );
  return { plan, used: spread.images, width, height, channels: latentChannels, bytes, std };
}

/** What is encoded. */
interface EncodeTask extends Size {
  readonly channels: number;
  readonly xflip: boolean;
}

/** For ranks beside the first, which reads the images and writes the latents: encodes parts of its batches. */
export async function helpEncoding(
  settings: PrepareOptions,
  device: Device,
  ranks: Ranks,
  signal: AbortSignal | undefined,
): Promise<void> {
  const folder = settings.autoencoder!;
  const autoencoder = await loadAutoencoder(folder, device);
  try {
    await compareOptions(ranks, { autoencoder: await autoencoderHash(folder) }, []);
    await help<EncodeTask>(ranks, signal, (what, range, { data }) =>
      encodeRange(autoencoder, data, what, range, device),
    );
  } finally {
    autoencoder.dispose();
  }
}

const floatsOf = (bytes: Buffer): Float32Array => new Float32Array(new Uint8Array(bytes).buffer);

/**
 * Mean and standard deviation of the codes of images, and of their mirrored copies.
 * @param data uint8 [N, H, W, C]
 * @param range of the images
 * @returns bytes of float32 [n, 1 | 2, 2, C, h, w]
 */
async function encodeRange(
  autoencoder: AutoencoderKL,
  data: Uint8Array,
  { height, width, channels, xflip }: EncodeTask,
  [begin, end]: readonly [number, number],
  device: Device,
): Promise<Uint8Array> {
  if (begin === end) return new Uint8Array(0);
  const imageBytes = height * width * channels;
  return torch.noGrad(() =>
    torch.scope(() => {
      const pixels = torch.tensor(data.subarray(begin * imageBytes, end * imageBytes), {
        ...{ shape: [end - begin, height, width, channels], dtype: 'uint8' },
        device,
      });
      const images = pixels.permute([0, 3, 1, 2]).to({ dtype: 'float32' }).div(127.5).sub(1).contiguous();
      const encode = (x: Tensor) => {
        const { mean, logvar } = autoencoder.encode(x);
        return torch.stack([mean, logvar.mul(0.5).exp()], 1); // [n, 2, C, h, w]
      };
      const copies = xflip ? [encode(images), encode(images.flip([3]))] : [encode(images)];
      const moments = torch.stack(copies, 1).to({ dtype: 'float32', device: 'cpu' });
      const { buffer, byteOffset, byteLength } = moments.contiguous().toTypedArray();
      return new Uint8Array(buffer, byteOffset, byteLength);
    }),
  );
}

/** Mean and spread of the latents so far, in float64: of mean + std · ε, whose variance is E[std²] + Var[mean]. */
class Spread {
  images = 0;
  #elements = 0;
  readonly #sum: Float64Array;
  readonly #squares: Float64Array;

  constructor(channels: number) {
    this.#sum = new Float64Array(channels);
    this.#squares = new Float64Array(channels);
  }

  add(moments: Tensor, { scale, shift }: { scale: number; shift: number }): void {
    torch.scope(() => {
      const [mean, std] = moments.to({ dtype: 'float64', device: 'cpu' }).unbind(2) as [Tensor, Tensor]; // [N, copies, C, h, w]
      const latent = mean.sub(shift).mul(scale);
      const perChannel = (t: Tensor) => t.sum([0, 1, 3, 4]).toTypedArray() as Float64Array;
      const sums = perChannel(latent);
      const squares = perChannel(latent.square().add(std.mul(scale).square()));
      for (const [c, value] of sums.entries()) {
        this.#sum[c] += value;
        this.#squares[c] += squares[c];
      }
      this.images += moments.shape[0];
      this.#elements += latent.numel / sums.length;
    });
  }

  get channelStd(): number[] {
    const n = this.#elements;
    return Array.from(this.#sum, (sum, c) => Math.sqrt(Math.max(this.#squares[c] / n - (sum / n) ** 2, 0)));
  }

  get std(): number {
    const total = (values: Float64Array) =>
      values.reduce((a, b) => a + b, 0) / (this.#elements * values.length);
    return Math.sqrt(Math.max(total(this.#squares) - total(this.#sum) ** 2, Number.MIN_VALUE));
  }
}
