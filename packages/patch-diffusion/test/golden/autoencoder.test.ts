/** The latent autoencoder against the reference vectors, and its files in diffusers' layout. */
import { existsSync, readdirSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { readSafetensors, writeSafetensors } from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { loadAutoencoder, saveAutoencoder } from '../../src/latents/autoencoder-folder.js';
import {
  type AutoencoderConfig,
  AutoencoderKL,
  STABLE_DIFFUSION_AUTOENCODER,
  samplePosterior,
} from '../../src/networks/autoencoder-kl.js';
import {
  describeAbsent,
  describeGolden,
  expectClose,
  type Golden,
  goldenDir,
  goldenFiles,
  openGolden,
} from '../helpers/golden.js';

interface Config {
  readonly kwargs: {
    readonly block_out_channels: number[];
    readonly layers_per_block: number;
    readonly norm_num_groups: number;
    readonly latent_channels: number;
    readonly in_channels: number;
    readonly out_channels: number;
  };
  readonly latent_scale_factor: number;
  readonly downsample_factor: number;
  readonly inputs: readonly string[];
  readonly num_params: number;
  readonly deprecated_attention_names: Record<string, string>;
}

function toConfig({ kwargs }: Config): AutoencoderConfig {
  return {
    ...STABLE_DIFFUSION_AUTOENCODER,
    blockOutChannels: kwargs.block_out_channels,
    layersPerBlock: kwargs.layers_per_block,
    normNumGroups: kwargs.norm_num_groups,
    latentChannels: kwargs.latent_channels,
    inChannels: kwargs.in_channels,
    outChannels: kwargs.out_channels,
  };
}

/** Checks every recorded input and output; the tolerance is the README's. */
function checkOutputs(model: AutoencoderKL, { config, tensor }: Golden<Config>): void {
  const scale = config.latent_scale_factor;
  for (const tag of config.inputs) {
    torch.scope(() => {
      const want = (name: string) => tensor(`out.${tag}.${name}`);
      const image = tensor(`in.${tag}.image`);
      expectClose(
        torch.noGrad(() => model.moments(image)),
        want('moments'),
        2e-5,
        0,
        `${tag}.moments`,
      );
      const posterior = model.encode(image);
      expectClose(posterior.mean, want('mean'), 2e-5, 0, `${tag}.mean`);
      expectClose(posterior.logvar, want('logvar'), 2e-5, 0, `${tag}.logvar`);
      expectClose(posterior.logvar.mul(0.5).exp(), want('std'), 2e-5, 0, `${tag}.std`);
      const sample = samplePosterior(posterior, tensor(`in.${tag}.noise`));
      expectClose(sample.mul(scale), want('sample_scaled'), 2e-5, 0, `${tag}.sample_scaled`);
      expectClose(model.decode(tensor(`in.${tag}.latent`)), want('decoded'), 2e-5, 0, `${tag}.decoded`);
      const roundTrip = model.decode(want('sample_scaled').div(scale));
      expectClose(roundTrip, want('decoded_from_scaled'), 2e-5, 0, `${tag}.decoded_from_scaled`);
    });
  }
}

describeGolden<Config>('autoencoder', ['vae'], (golden) => {
  const model = new AutoencoderKL(toConfig(golden.config));
  expect(model.numParams()).toBe(golden.config.num_params);
  expect(model.downFactor).toBe(golden.config.downsample_factor);
  torch.scope(() => model.loadStateDict(golden.group('param.')));
  checkOutputs(model, golden);
  model.dispose();
});

const parent = join(goldenDir, 'autoencoder');
const folders = existsSync(parent)
  ? readdirSync(parent).filter((name) => existsSync(join(parent, name, 'config.json')))
  : [];
if (folders.length === 0) describeAbsent('autoencoder', "folders in diffusers' layout");

/** The vectors with the same weights as a loaded folder. */
function vectorsOf(model: AutoencoderKL): Golden<Config> {
  for (const name of goldenFiles('autoencoder')) {
    const golden = openGolden<Config>(join(parent, name));
    const weights = golden.group('param.');
    const state = [...model.stateDict()];
    if (state.every(([name, t]) => weights.has(name) && torch.equal(weights.get(name)!, t))) return golden;
    golden.file.close();
  }
  throw new Error('no vectors have these weights');
}

describe.each(folders)('golden/autoencoder/%s', (name) => {
  const folder = join(parent, name);
  const binary = readdirSync(folder).find((file) => file.endsWith('.bin'));

  it('loads an old file with the older attention names', async () => {
    const model = await loadAutoencoder(folder);
    const golden = vectorsOf(model);
    checkOutputs(model, golden);
    golden.file.close();
    model.dispose();
  });

  it.runIf(binary)('loads a .bin where there is no safetensors file', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'autoencoder-'));
    try {
      for (const name of ['config.json', binary!]) await copyFile(join(folder, name), join(dir, name));
      const [model, other] = [await loadAutoencoder(dir), await loadAutoencoder(folder)];
      for (const [name, tensor] of other.stateDict())
        expectClose(model.stateDict().get(name)!, tensor, 0, 0, name);
      model.dispose();
      other.dispose();
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it('reads what it writes, and 1×1 convolutions in place of matrices', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'autoencoder-'));
    try {
      const model = await loadAutoencoder(folder);
      await saveAutoencoder(dir, model);
      const file = join(dir, 'diffusion_pytorch_model.safetensors');
      const { tensors } = await readSafetensors(file);
      expect([...tensors.keys()].sort()).toEqual([...model.stateDict().keys()].sort());
      const asConvolutions = [...tensors].map(([name, t]): [string, torch.Tensor] => [
        name,
        /to_(q|k|v|out\.0)\.weight/.test(name) ? t.reshape([...t.shape, 1, 1]) : t,
      ]);
      await writeSafetensors(file, asConvolutions);
      const again = await loadAutoencoder(dir);
      expect(again.config).toEqual(model.config);
      for (const [name, tensor] of model.stateDict())
        expectClose(again.stateDict().get(name)!, tensor, 0, 0, name);
      again.dispose();
      model.dispose();
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it('says what is missing', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'autoencoder-'));
    try {
      await expect(loadAutoencoder(dir)).rejects.toThrow(/no autoencoder in .*config\.json/);
      const config = await readFile(join(folder, 'config.json'), 'utf8');
      await writeFile(join(dir, 'config.json'), config.replace('DownEncoderBlock2D', 'AttnDownBlock2D'));
      await expect(loadAutoencoder(dir)).rejects.toThrow(/down_block_types\.0.*Stable Diffusion/);
      await writeFile(join(dir, 'config.json'), config);
      await expect(loadAutoencoder(dir)).rejects.toThrow(/no weights in/);
      await writeSafetensors(join(dir, 'diffusion_pytorch_model.safetensors'), []);
      await expect(loadAutoencoder(dir)).rejects.toThrow(/encoder\.conv_in\.weight is missing/);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});

describe('AutoencoderKL', () => {
  it('has the published size', () => {
    const model = torch.scope(() => new AutoencoderKL(STABLE_DIFFUSION_AUTOENCODER, 'zeros'));
    expect(model.numParams()).toBe(83_653_863);
    expect(model.stateDict().size).toBe(248);
    model.dispose();
  });

  it('leaves no tensors behind', async () => {
    const model = new AutoencoderKL({
      ...STABLE_DIFFUSION_AUTOENCODER,
      blockOutChannels: [4, 8],
      layersPerBlock: 1,
      normNumGroups: 2,
    });
    await collectGarbage();
    const before = torch.liveTensors();
    torch.scope(() => {
      model.decode(model.encode(torch.zeros([1, 3, 8, 8])).mean);
    });
    expect(torch.liveTensors()).toBe(before);
    expect(() => model.encode(torch.zeros([1, 3, 8, 9]))).toThrow(/divides both sides by 2/);
    model.dispose();
  });
});
