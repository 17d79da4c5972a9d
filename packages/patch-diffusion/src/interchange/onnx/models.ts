/** What is exported as ONNX: a denoiser, or the decoder of an autoencoder. */
import * as torch from '@patch-diffusion/torch';
import type { Denoiser } from '../../diffusion/preconditioning.js';
import type { LatentDecoder } from '../../latents/latents.js';
import { POSITION_CHANNELS } from '../../patches/extent.js';
import type { Traceable } from './trace.js';

/** D(x; σ) with the inputs `x`, `sigma`, `positions` and `class_labels`, without those that the network lacks. */
export function traceableDenoiser(denoiser: Denoiser): Traceable {
  const { dataChannels, hasPositions, labelDim, model } = denoiser;
  return {
    module: denoiser,
    multiple: model.sizeFactor,
    inputs: ({ batch, height, width }) => ({
      x: torch.zeros([batch, dataChannels, height, width]),
      sigma: torch.ones([batch]),
      ...(hasPositions ? { positions: torch.zeros([batch, POSITION_CHANNELS, height, width]) } : {}),
      ...(labelDim ? { class_labels: torch.zeros([batch, labelDim]) } : {}),
    }),
    forward: ({ x, sigma, positions, class_labels: classLabels }) =>
      denoiser.forward(x, sigma, { positions, classLabels }),
  };
}

/** From `latents`, as sampled, to images. */
export function traceableDecoder(decoder: LatentDecoder): Traceable {
  const { module } = decoder;
  return {
    module,
    multiple: 1,
    inputs: ({ batch, height, width }) => ({
      latents: torch.zeros([batch, module.config.latentChannels, height, width]),
    }),
    forward: ({ latents }) => decoder.decodeBatch(latents),
  };
}
