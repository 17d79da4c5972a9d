import type { Module, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { expect } from 'vitest';
import { camelCaseKeys } from '../../src/interchange/official-config.js';
import type { Init } from '../../src/networks/init.js';
import {
  Conv2d,
  FourierEmbedding,
  GroupNorm,
  Linear,
  PositionalEmbedding,
} from '../../src/networks/layers.js';
import type { UNetBlockOptions } from '../../src/networks/levels.js';
import { modulations, UNetBlock } from '../../src/networks/unet-block.js';
import { describeGolden, expectClose, type Golden, onDevice } from '../helpers/golden.js';

interface LayerConfig {
  class: string;
  kwargs: Record<string, never>;
  grads?: boolean;
}

/** `{init_mode, init_weight, init_bias}` → {@link Init}. */
function toInit(args: Record<string, never> | null): Init | null {
  return args && { mode: args.init_mode, weight: args.init_weight, bias: args.init_bias };
}

function build(
  className: string,
  kwargs: Record<string, never>,
): Module & { forward(x: Tensor, emb?: Tensor): Tensor } {
  const {
    in_channels,
    out_channels,
    kernel,
    in_features,
    out_features,
    emb_channels,
    num_channels,
    ...rest
  } = kwargs;
  const init = toInit(kwargs) ?? {};
  const options = camelCaseKeys(rest);
  switch (className) {
    case 'Linear':
      return new Linear(in_features, out_features, { ...options, init });
    case 'Conv2d':
      return new Conv2d(in_channels, out_channels, kernel, { ...options, init });
    case 'GroupNorm':
      return new GroupNorm(num_channels, rest.eps, options) as never; // its second argument is no embedding
    case 'PositionalEmbedding':
      return new PositionalEmbedding(num_channels, rest.max_positions, rest.endpoint);
    case 'FourierEmbedding':
      return new FourierEmbedding(num_channels, rest.scale);
    case 'UNetBlock': {
      const inits = {
        init: toInit(rest.init) ?? {},
        initZero: toInit(rest.init_zero) ?? {},
        initAttn: toInit(rest.init_attn),
      };
      return new UNetBlock(in_channels, out_channels, emb_channels, {
        ...options,
        ...inits,
      } as UNetBlockOptions) as never;
    }
    default:
      throw new Error(`unknown layer class ${className}`);
  }
}

describeGolden<LayerConfig>('layers', ['layer'], ({ config, tensor, has, group }: Golden<LayerConfig>) => {
  const layer = onDevice(build(config.class, config.kwargs)).eval();
  layer.loadStateDict(group('param.'));
  const x = tensor('in.x').setRequiresGrad();
  const emb = has('in.emb') ? tensor('in.emb').setRequiresGrad() : undefined;
  const y = layer.forward(x, layer instanceof UNetBlock ? modulations([layer], emb!).get(layer) : emb);
  expectClose(y, tensor('out.y'), 2e-5, 0, 'out.y');
  if (!has('in.probe')) {
    expect(group('grad.').size).toBe(0);
    return;
  }
  y.mul(tensor('in.probe')).sum().backward();
  const inputs: Record<string, Tensor | undefined> = { x, emb };
  const parameters = new Map(layer.namedParameters());
  const buffers = new Map(layer.namedBuffers());
  for (const [name, expected] of group('grad.')) {
    const own = name.slice('param.'.length);
    // Some buffers have a gradient there; here they are constants.
    if (name.startsWith('param.') && buffers.has(own)) continue;
    const source = name.startsWith('in.') ? inputs[name.slice('in.'.length)] : parameters.get(own);
    expect(source, `grad.${name}`).toBeDefined();
    expectClose(source!.grad ?? torch.zerosLike(expected), expected, 2e-4, 1e-6, `grad.${name}`);
  }
});
