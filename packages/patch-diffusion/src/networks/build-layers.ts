/** From the description of layers to the layers. */
import { type Module, ModuleDict } from '@patch-diffusion/torch';
import { Conv2d, GroupNorm, PointwiseMlp } from './layers.js';
import type { LayerSpec } from './levels.js';
import { UNetBlock } from './unet-block.js';

/** Builds the layers in their order, which is that of the random draws. */
export function buildLayers(
  layers: readonly (readonly [string, LayerSpec])[],
  embChannels: number,
): ModuleDict {
  const dict = new ModuleDict();
  for (const [name, layer] of layers) dict.set(name, build(layer, embChannels));
  return dict;
}

function build(layer: LayerSpec, embChannels: number): Module {
  switch (layer.kind) {
    case 'block':
      return new UNetBlock(layer.from, layer.to, embChannels, layer.options);
    case 'conv':
      return new Conv2d(layer.from, layer.to, layer.kernel, layer.options);
    case 'norm':
      return new GroupNorm(layer.channels, layer.eps);
    case 'mlp':
      return new PointwiseMlp(layer.from, layer.to, layer.init);
  }
}
