/** JSON files that come from outside, sound. */
import { resolveTrainOptions } from 'patch-diffusion';

export function jsonFiles(): Record<
  'options' | 'run' | 'network' | 'autoencoder' | 'labels' | 'dataset',
  object
> {
  const options = {
    data: 'set',
    preset: 'tiny',
    seed: 1,
    patchSizes: [
      { sidePx: 8, probability: 0.5 },
      { sidePx: 16, probability: 0.5 },
    ],
    resolution: 16,
    holdout: 2,
  };
  return {
    options,
    run: {
      ...{
        format: 1,
        config: resolveTrainOptions({ call: options }),
        status: 'interrupted',
        version: '0.1.0',
        pid: 7,
      },
      ...{
        host: 'here',
        startedAt: '2026-01-01T00:00:00Z',
        heartbeat: '2026-01-01T00:00:00Z',
        step: 1,
        nimg: 8,
        totalNimg: 100,
      },
    },
    network: {
      type: 'Patch_EDMPrecond',
      img_resolution: 16,
      img_channels: 5,
      out_channels: 3,
      label_dim: 0,
      model_type: 'SongUNet',
      model_channels: 4,
      channel_mult: [1, 2],
      attn_resolutions: [8],
      sigma_min: 0,
    },
    autoencoder: {
      _class_name: 'AutoencoderKL',
      in_channels: 3,
      out_channels: 3,
      latent_channels: 4,
      block_out_channels: [32, 64],
      layers_per_block: 1,
      norm_num_groups: 32,
      scaling_factor: 0.18,
    },
    labels: {
      images: [
        { file: 'a.png', seed: 1, class: 0, name: 'cat' },
        { file: 'b.png', seed: 2, label: [0.5] },
      ],
    },
    dataset: {
      labels: [
        ['a.png', 0],
        ['b.png', 1],
      ],
      classes: ['cat', 'dog'],
    },
  };
}
