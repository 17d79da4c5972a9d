/** Snapshots as ONNX files: the denoiser with its preconditioning, and for latents the decoder in a second file. */
import * as torch from '@patch-diffusion/torch';
import { TorchError } from '@patch-diffusion/torch';
import { UserError } from '../../common/errors.js';
import type { Denoiser } from '../../diffusion/preconditioning.js';
import { METADATA_KEY } from '../../formats/file-description.js';
import type { OnnxGraph } from '../../formats/onnx/graph.js';
import { writeOnnx } from '../../formats/onnx/model.js';
import { LatentDecoder } from '../../latents/latents.js';
import type { SnapshotInfo } from '../../run/snapshot-info.js';
import { buildGraph } from './build.js';
import { decoderInfo, denoiserInfo } from './metadata.js';
import { traceableDecoder, traceableDenoiser } from './models.js';
import type { OnnxOptions, OnnxPrecision } from './options.js';

const STORED = { fp32: 'float32', fp16: 'float16', int8: 'int8' } as const;

/**
 * Writes `out`, and for a network that was trained on latents the decoder beside it.
 * @param denoiser on the CPU; its layout and precision are changed
 * @throws UserError where the autoencoder is missing, or the network cannot be written in this precision
 */
export async function exportOnnx(
  out: string,
  denoiser: Denoiser,
  info: SnapshotInfo,
  { precision = 'fp32', license = null, autoencoder = null }: OnnxOptions,
): Promise<{ files: string[]; tensors: number }> {
  if (autoencoder !== null && !info.latents) {
    throw new UserError(
      'NO_LATENTS',
      '--autoencoder: this network was trained on pixels; leave the option out',
      {
        exitCode: 2,
      },
    );
  }
  const folder = autoencoder ?? info.train?.autoencoder ?? null;
  // Before anything is written: it may be missing.
  const decoder = info.latents
    ? await LatentDecoder.open(info.latents, folder, denoiser.dataChannels, 'cpu')
    : null;
  try {
    const metadata = (description: object) => ({
      [METADATA_KEY]: JSON.stringify(description),
      ...(license === null ? {} : { license }),
    });
    const weights = STORED[precision];
    if (precision === 'fp16') denoiser.computeDtype = 'float16';
    const graph = inPrecision(precision, () =>
      buildGraph(traceableDenoiser(denoiser), { name: 'denoiser', output: 'denoised', weights }),
    );
    const files = [out];
    let tensors = await writeOnnx(out, graph, metadata(denoiserInfo(denoiser, info, precision)));
    if (decoder) {
      const file = decoderFileOf(out);
      const decoding = buildGraph(traceableDecoder(decoder), { name: 'decoder', output: 'images', weights });
      tensors += await writeOnnx(file, decoding, metadata(decoderInfo(decoder, precision)));
      files.push(file);
    }
    return { files, tensors };
  } finally {
    decoder?.dispose();
  }
}

/** `photos.onnx` → `photos-decoder.onnx` */
const decoderFileOf = (out: string): string => `${out.replace(/\.onnx$/, '')}-decoder.onnx`;

/** Recording runs the network, and older libtorchs lack float16 on a CPU. */
function inPrecision(precision: OnnxPrecision, build: () => OnnxGraph): OnnxGraph {
  try {
    return build();
  } catch (cause) {
    if (precision !== 'fp16' || !(cause instanceof TorchError)) throw cause;
    throw new UserError(
      'NO_FLOAT16',
      `--precision fp16: libtorch ${torch.version().torch} cannot compute this network in float16 on a CPU (${cause.message.split('\n')[0]}); use a newer libtorch, or another precision`,
      { cause },
    );
  }
}
