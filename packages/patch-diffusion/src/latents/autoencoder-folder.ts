/**
 * Autoencoders as folders of diffusers: `config.json` beside `diffusion_pytorch_model.safetensors` (or `.bin`).
 * Older files name the layers of the attention query, key, value and proj_attn, and some store them as 1×1 convolutions:
 * these are read, too; the newer names are written. Limits: the blocks of Stable Diffusion's autoencoders only.
 */
import { mkdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import {
  type Device,
  StateDictError,
  type Tensor,
  writeFileAtomic,
  writeSafetensors,
} from '@patch-diffusion/torch';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import { sha256Of } from '../common/sha256.js';
import { placement } from '../diffusion/device.js';
import { checkFields } from '../formats/file-description.js';
import { FileSource } from '../formats/pickle/byte-source.js';
import { openTensorFile } from '../formats/tensor-file.js';
import { readTorchFile, stateDictOf } from '../formats/torch-file/index.js';
import { type AutoencoderConfig, AutoencoderKL } from '../networks/autoencoder-kl.js';

const WEIGHTS = 'diffusion_pytorch_model';
const DOWN_BLOCK = 'DownEncoderBlock2D';
const UP_BLOCK = 'UpDecoderBlock2D';

const width = z.int().min(1).max(8192);
/** Fields that decide the network; the defaults are those of diffusers. Other fields are ignored. */
const configSchema = z.looseObject({
  _class_name: z.literal('AutoencoderKL').optional(),
  in_channels: width.default(3),
  out_channels: width.default(3),
  latent_channels: width.default(4),
  block_out_channels: z.array(width).min(1).max(8),
  down_block_types: z.array(z.literal(DOWN_BLOCK)).optional(),
  up_block_types: z.array(z.literal(UP_BLOCK)).optional(),
  layers_per_block: z.int().min(1).max(32).default(1),
  act_fn: z.enum(['silu', 'swish']).default('silu'),
  norm_num_groups: width.default(32),
  use_quant_conv: z.boolean().default(true),
  use_post_quant_conv: z.boolean().default(true),
  mid_block_add_attention: z.boolean().default(true),
  scaling_factor: z.number().positive().default(0.18215),
  shift_factor: z.number().nullish(),
});

/**
 * Loads an autoencoder for inference. The caller disposes it.
 * @param folder with `config.json` and the weights; as downloaded from a model page, or its `vae/` folder
 * @throws UserError when a file is missing or damaged, or the weights do not fit the configuration
 * @example
 * ```ts
 * const autoencoder = await loadAutoencoder('vae');
 * const { mean } = autoencoder.encode(torch.zeros([1, 3, 64, 64])); // [1, 4, 16, 16]
 * autoencoder.dispose();
 * ```
 */
export async function loadAutoencoder(folder: string, device: Device = 'cpu'): Promise<AutoencoderKL> {
  const config = await readConfig(folder);
  const weights = await findWeights(folder);
  const tensors = await readWeights(weights);
  try {
    checkSizes(config, tensors, weights);
    const model = new AutoencoderKL(config, 'zeros');
    try {
      torch.scope(() => model.loadStateDict(withNewNames(tensors)));
      return model.requiresGrad(false).eval().to(placement(device));
    } catch (cause) {
      model.dispose();
      if (!(cause instanceof StateDictError)) throw cause;
      throw new UserError('BAD_AUTOENCODER', `${weights}: ${cause.message}`, { cause });
    }
  } finally {
    for (const tensor of tensors.values()) tensor.dispose();
  }
}

/** The convolutions of every level must be in the file, so that what is built is not much larger than it. */
function checkSizes(config: AutoencoderConfig, tensors: ReadonlyMap<string, Tensor>, file: string): void {
  const { inChannels, outChannels, latentChannels, blockOutChannels: widths, layersPerBlock } = config;
  const bad = (what: string) => {
    throw new UserError(
      'BAD_AUTOENCODER',
      `${file} does not fit the config.json beside it: ${what}; download both again`,
    );
  };
  const need = (name: string, shape: readonly number[]) => {
    const found = tensors.get(name)?.shape;
    if (String(found) !== String(shape))
      bad(`${name} ${found ? `has the shape [${found}]` : 'is missing'} where [${shape}] is expected`);
  };
  const last = widths[widths.length - 1];
  need('encoder.conv_in.weight', [widths[0], inChannels, 3, 3]);
  need('encoder.conv_out.weight', [2 * latentChannels, last, 3, 3]);
  need('decoder.conv_in.weight', [last, latentChannels, 3, 3]);
  need('decoder.conv_out.weight', [outChannels, widths[0], 3, 3]);
  for (const [level, to] of widths.entries()) {
    if (to % Math.min(config.normNumGroups, to))
      bad(`${to} channels do not make ${config.normNumGroups} equal groups for normalisation`);
    for (let i = 0; i < layersPerBlock; i++) {
      const from = i === 0 ? (widths[level - 1] ?? to) : to;
      need(`encoder.down_blocks.${level}.resnets.${i}.conv1.weight`, [to, from, 3, 3]);
    }
  }
}

/**
 * Writes an autoencoder in the same layout; the folder is made if need be.
 * @example
 * ```ts
 * const autoencoder = new AutoencoderKL({
 *   ...STABLE_DIFFUSION_AUTOENCODER,
 *   ...{ blockOutChannels: [8, 16], normNumGroups: 4 },
 * });
 * await saveAutoencoder('small-vae', autoencoder);
 * autoencoder.dispose();
 * ```
 */
export async function saveAutoencoder(folder: string, model: AutoencoderKL): Promise<void> {
  const { config } = model;
  const levels = config.blockOutChannels.length;
  const json: z.input<typeof configSchema> = {
    _class_name: 'AutoencoderKL',
    in_channels: config.inChannels,
    out_channels: config.outChannels,
    latent_channels: config.latentChannels,
    block_out_channels: [...config.blockOutChannels],
    down_block_types: Array<typeof DOWN_BLOCK>(levels).fill(DOWN_BLOCK),
    up_block_types: Array<typeof UP_BLOCK>(levels).fill(UP_BLOCK),
    layers_per_block: config.layersPerBlock,
    act_fn: 'silu',
    norm_num_groups: config.normNumGroups,
    use_quant_conv: config.useQuantConv,
    use_post_quant_conv: config.usePostQuantConv,
    mid_block_add_attention: config.midBlockAddAttention,
    scaling_factor: config.scalingFactor,
    shift_factor: config.shiftFactor || null,
  };
  await mkdir(folder, { recursive: true });
  await writeSafetensors(join(folder, `${WEIGHTS}.safetensors`), model.stateDict(), { format: 'pt' });
  await writeFileAtomic(join(folder, 'config.json'), `${JSON.stringify(json, null, 2)}\n`);
}

/** SHA-256 of the weights file, hexadecimal. */
export async function autoencoderHash(folder: string): Promise<string> {
  return sha256Of(await findWeights(folder));
}

async function readConfig(folder: string): Promise<AutoencoderConfig> {
  const file = join(folder, 'config.json');
  let json: unknown;
  try {
    json = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if (cause instanceof SyntaxError) {
      throw new UserError(
        'BAD_AUTOENCODER',
        `${file} is not valid JSON (${cause.message}); download it again`,
        { cause },
      );
    }
    throw new UserError(
      'NO_AUTOENCODER',
      `no autoencoder in ${folder}: config.json cannot be read; give the folder that holds it beside ${WEIGHTS}.safetensors, such as a copy of stabilityai/sd-vae-ft-ema`,
      { cause },
    );
  }
  const c = checkFields(
    configSchema,
    json,
    `${file}: the field`,
    'only AutoencoderKL as in Stable Diffusion is supported',
  );
  return {
    inChannels: c.in_channels,
    outChannels: c.out_channels,
    latentChannels: c.latent_channels,
    blockOutChannels: c.block_out_channels,
    layersPerBlock: c.layers_per_block,
    normNumGroups: c.norm_num_groups,
    useQuantConv: c.use_quant_conv,
    usePostQuantConv: c.use_post_quant_conv,
    midBlockAddAttention: c.mid_block_add_attention,
    scalingFactor: c.scaling_factor,
    shiftFactor: c.shift_factor ?? 0,
  };
}

async function findWeights(folder: string): Promise<string> {
  for (const extension of ['safetensors', 'bin']) {
    const file = join(folder, `${WEIGHTS}.${extension}`);
    const found = await stat(file).catch(() => null);
    if (found?.isFile()) return file;
  }
  throw new UserError(
    'NO_AUTOENCODER',
    `no weights in ${folder}: there is no ${WEIGHTS}.safetensors; download it into this folder`,
  );
}

/** All tensors of a weights file, outside of every scope. */
async function readWeights(file: string): Promise<Map<string, Tensor>> {
  if (file.endsWith('.safetensors')) {
    const reader = await openTensorFile(file);
    try {
      return new Map(reader.names.map((name) => [name, reader.tensor(name)]));
    } finally {
      await reader.close();
    }
  }
  const source = new FileSource(file);
  try {
    const dict = stateDictOf(await readTorchFile(source, file)) ?? [];
    return new Map(Array.from(dict, ([name, tensor]) => [name, tensor.toTensor()]));
  } finally {
    source.close();
  }
}

const RENAMED: Readonly<Record<string, string>> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

/** Older names of the attention become the newer ones, its 1×1 convolutions matrices. */
function withNewNames(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  return new Map(
    Array.from(tensors, ([name, tensor]) => {
      if (!name.includes('.attentions.')) return [name, tensor];
      const renamed = name.replace(
        /\.(query|key|value|proj_attn)\./,
        (_, old: string) => `.${RENAMED[old]}.`,
      );
      return [renamed, tensor.ndim === 4 ? tensor.flatten(1) : tensor];
    }),
  );
}
