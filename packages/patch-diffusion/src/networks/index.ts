/** The denoising networks by their checkpoint class names, and the presets of the official command line. */
import type { NetworkSpec } from './architectures.js';
import { DhariwalUNet } from './dhariwal-unet.js';
import { SongUNet } from './song-unet.js';
import type { UNet } from './unet.js';

export { ARCHITECTURES, type Architecture, type NetworkSpec } from './architectures.js';

/**
 * Builds a freshly initialised network from its description.
 * @example
 * ```ts
 * const network = createNetwork({
 *   ...{ ...ARCHITECTURES.ddpmpp, modelChannels: 16 },
 *   ...{ imgResolution: 32, inChannels: 3, outChannels: 3 },
 * });
 * const output = network.forward(torch.randn([1, 3, 32, 32]), torch.zeros([1])); // [1, 3, 32, 32]
 * ```
 */
export function createNetwork(spec: NetworkSpec): UNet {
  switch (spec.type) {
    case 'SongUNet':
      return new SongUNet(spec);
    case 'DhariwalUNet':
      return new DhariwalUNet(spec);
  }
}
