/** Exported ONNX files give what libtorch gives: every architecture, preconditioner, size and class. */
import { cp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser, type Denoiser } from '../../src/diffusion/preconditioning.js';
import { type ModelProto, ModelProtoSchema } from '../../src/formats/onnx/onnx_pb.js';
import { exportSnapshot } from '../../src/interchange/export.js';
import { exportOnnx } from '../../src/interchange/onnx/export.js';
import type { OnnxDecoderInfo, OnnxDenoiserInfo } from '../../src/interchange/onnx/metadata.js';
import { writeSnapshot } from '../../src/interchange/snapshot.js';
import { autoencoderHash } from '../../src/latents/autoencoder-folder.js';
import { LatentDecoder } from '../../src/latents/latents.js';
import type { SnapshotInfo } from '../../src/run/snapshot-info.js';
import { formulaTensor } from '../helpers/formula.js';
import { hasOnnxRuntime, OnnxSession } from '../helpers/onnx.js';
import { writeTinyAutoencoder } from '../helpers/tiny-autoencoder.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';
import { runCli, temporaryFolder } from '../helpers/tiny-run.js';

const dir = await temporaryFolder();

const shape = {
  ...{ imgResolution: 16, inChannels: 3, outChannels: 3, modelChannels: 16 },
  ...{ channelMult: [1, 2], numBlocks: 1 },
};
const song = { type: 'SongUNet', ...shape, attnResolutions: [8] } as const;
const adm = { type: 'DhariwalUNet', ...shape, modelChannels: 32, attnResolutions: [16, 8] } as const;
const ncsnpp = {
  ...({ encoderType: 'residual', embeddingType: 'fourier', channelMultNoise: 2 } as const),
  resampleFilter: [1, 3, 3, 1],
};
const labelDim = 3;

const SPECS: Record<string, PrecondSpec> = {
  'DDPM++ with coordinates and classes': { type: 'pedm', network: { ...song, inChannels: 5, labelDim } },
  'DDPM++ with a pointwise MLP': { type: 'pedm', network: { ...song, inChannels: 5, implicitMlp: true } },
  'DDPM++ with augmentation labels': { type: 'edm', network: { ...song, augmentDim: 9 } },
  'NCSN++ with classes': { type: 'edm', network: { ...song, ...ncsnpp, labelDim } },
  'skip encoder and decoder': {
    ...{ type: 'edm', sigmaData: 0.7 },
    network: { ...song, encoderType: 'skip', decoderType: 'skip', resampleFilter: [1, 3, 3, 1] },
  },
  'grey images': { type: 'pedm', network: { ...song, outChannels: 1 } },
  'ADM with coordinates and classes': { type: 'pedm', network: { ...adm, inChannels: 5, labelDim } },
  'VP preconditioning': { type: 'vp', network: song },
  'VE preconditioning': { type: 've', network: { ...song, ...ncsnpp } },
  'iDDPM preconditioning': { type: 'iddpm', network: { ...adm, outChannels: 6 } },
};

/** With weights as large as a trained network's: new ones end in zeros. */
function makeDenoiser(spec: PrecondSpec): Denoiser {
  const denoiser = createDenoiser(spec);
  torch.noGrad(() =>
    torch.scope(() => {
      for (const [j, [name, target]] of [...denoiser.namedParameters()].entries())
        target.copy_(formulaTensor(name, j, target.shape, { salt: 5, gain: 1 }));
    }),
  );
  return denoiser.requiresGrad(false).eval();
}

const infoOf = (precond: PrecondSpec, more: Partial<SnapshotInfo> = {}): SnapshotInfo => ({
  ...{ kind: 'snapshot', formatVersion: 1, precond, loss: { type: 'edm' }, train: null },
  ...{ dataset: { name: 'photos', classNames: null }, nimg: 0, step: 0, ...more },
});

const seeded = (shape: number[], seed: number) =>
  torch.randn(shape, { generator: new torch.Generator('cpu', seed) });

/** The inputs that the denoiser takes, by their names in the file. */
function inputsOf(denoiser: Denoiser, sigmas: number[], height: number, width: number, classes: number[]) {
  const batch = sigmas.length;
  const sigma = torch.tensor(sigmas);
  return {
    x: seeded([batch, denoiser.dataChannels, height, width], 1).mul(sigma.reshape([-1, 1, 1, 1])),
    sigma,
    ...(denoiser.hasPositions ? { positions: seeded([batch, 2, height, width], 2).clamp(-1, 1) } : {}),
    ...(denoiser.labelDim
      ? {
          class_labels: torch
            .eye(labelDim + 1)
            .narrow(1, 0, labelDim)
            .indexSelect(0, torch.tensor(BigInt64Array.from(classes, BigInt))),
        }
      : {}),
  };
}

const denoise = (denoiser: Denoiser, inputs: ReturnType<typeof inputsOf>): Tensor =>
  torch.noGrad(() =>
    denoiser.forward(inputs.x, inputs.sigma, {
      positions: inputs.positions,
      classLabels: inputs.class_labels,
    }),
  );

const difference = (a: Tensor, b: Tensor): number => {
  expect(a.shape).toEqual(b.shape);
  return torch.scope(() => a.sub(b).abs().max().item());
};

async function readModel(file: string): Promise<ModelProto> {
  return fromBinary(ModelProtoSchema, await readFile(file));
}

const metadataOf = ({ metadataProps }: ModelProto): Record<string, string> =>
  Object.fromEntries(metadataProps.map(({ key, value }) => [key, value]));

describe.runIf(hasOnnxRuntime)('ONNX files of denoisers', () => {
  it.each(Object.entries(SPECS))('%s: within 1e-4 of libtorch', async (name, spec) => {
    using denoiser = makeDenoiser(spec);
    const file = join(dir, `${name}.onnx`);
    await exportOnnx(file, denoiser, infoOf(spec), {});
    await using onnx = await OnnxSession.open(file);
    for (const [height, width] of [
      [16, 16],
      [8, 24],
      [2, 2],
    ]) {
      for (const sigmas of [[0.002], [0.05, 0.4], [1, 3, 80, 0.3]]) {
        const inputs = inputsOf(denoiser, sigmas, height, width, [3, 0, 1, 2].slice(0, sigmas.length));
        const want = denoise(denoiser, inputs);
        // VP, VE and iDDPM multiply the network's output by σ: float32 itself is 3e-5 apart at 300.
        const limit = Math.max(1e-4, 1e-6 * want.abs().max().item());
        const where = `σ ${sigmas}, ${width}×${height}`;
        expect(difference(await onnx.run(inputs), want), where).toBeLessThan(limit);
      }
    }
  });

  it('depend on the class, the coordinates and the noise level', async () => {
    const spec = SPECS['DDPM++ with coordinates and classes'];
    using denoiser = makeDenoiser(spec);
    const file = join(dir, 'inputs.onnx');
    await exportOnnx(file, denoiser, infoOf(spec), {});
    await using onnx = await OnnxSession.open(file);
    const inputs = inputsOf(denoiser, [0.5], 8, 8, [0]);
    const one = await onnx.run(inputs);
    const changes = {
      class_labels: torch.tensor([[0, 0, 1]]),
      positions: torch.zeros([1, 2, 8, 8]),
      sigma: torch.tensor([0.6]),
    };
    for (const [name, value] of Object.entries(changes))
      expect(difference(await onnx.run({ ...inputs, [name]: value }), one), name).toBeGreaterThan(1e-3);
  });

  it.each([
    ['fp16', 5e-3],
    ['int8', 3e-2],
  ] as const)('%s: near the exact ones, and smaller', async (precision, limit) => {
    const network = { ...song, ...ncsnpp, inChannels: 5, labelDim, modelChannels: 64 };
    const sizes: number[] = [];
    for (const one of ['fp32', precision] as const) {
      using denoiser = makeDenoiser({ type: 'pedm', network });
      const file = join(dir, `small-${one}.onnx`);
      await exportOnnx(file, denoiser, infoOf(denoiser.spec), { precision: one });
      sizes.push((await stat(file)).size);
      denoiser.computeDtype = 'float32';
      await using onnx = await OnnxSession.open(file);
      const inputs = inputsOf(denoiser, [0.02, 0.5, 20], 16, 16, [0, 1, 2]);
      const error = difference(await onnx.run(inputs), denoise(denoiser, inputs));
      expect(error).toBeLessThan(one === 'fp32' ? 1e-4 : limit);
      if (one !== 'fp32') expect(error).toBeGreaterThan(1e-4);
    }
    expect(sizes[1]).toBeLessThan(sizes[0] * (precision === 'fp16' ? 0.55 : 0.35));
  });
});

describe.runIf(hasOnnxRuntime)('ONNX files of a network for latents', () => {
  it('are the denoiser, and the decoder of its autoencoder', async () => {
    const vae = await writeTinyAutoencoder(join(dir, 'vae'));
    const spec: PrecondSpec = { type: 'edm', network: { ...song, inChannels: 4, outChannels: 4 } };
    using denoiser = makeDenoiser(spec);
    const autoencoder = { path: vae, sha256: await autoencoderHash(vae) };
    const latents = { autoencoder, scale: 0.18215, shift: 0.1, downFactor: 4 };
    const snapshot = join(dir, 'latents.safetensors');
    await writeSnapshot(snapshot, denoiser, infoOf(spec, { latents }));
    for (const precision of ['fp32', 'fp16', 'int8'] as const) {
      const out = join(dir, `latents-${precision}.onnx`);
      const { files } = await exportSnapshot({ network: snapshot, format: 'onnx', precision, out });
      expect(files).toEqual([out, join(dir, `latents-${precision}-decoder.onnx`)]);
      await using onnx = await OnnxSession.open(files[1]);
      const decoder = await LatentDecoder.open(latents, null, 4, 'cpu');
      for (const [height, width] of [
        [4, 4],
        [3, 7],
      ]) {
        using z = seeded([2, 4, height, width], 3);
        const want = await decoder.decode(z);
        expect(want.shape).toEqual([2, 3, 4 * height, 4 * width]);
        const limit = { fp32: 1e-4, fp16: 2e-2, int8: 0.3 }[precision];
        expect(difference(await onnx.run({ latents: z }), want)).toBeLessThan(limit);
      }
      decoder.dispose();
      const [one, other] = await Promise.all(files.map(async (file) => metadataOf(await readModel(file))));
      expect((JSON.parse(one.patch_diffusion) as OnnxDenoiserInfo).latents).toEqual({ downFactor: 4 });
      expect(JSON.parse(other.patch_diffusion) as OnnxDecoderInfo).toEqual({
        ...{
          kind: 'onnx-decoder',
          formatVersion: 1,
          precision,
          latentChannels: 4,
          channels: 3,
          downFactor: 4,
        },
      });
    }
    await rm(vae, { recursive: true });
    const failing = exportSnapshot({ network: snapshot, format: 'onnx', out: join(dir, 'none.onnx') });
    await expect(failing).rejects.toThrow(/autoencoder of these latents is no longer in .*--autoencoder/);
    await expect(readFile(join(dir, 'none.onnx'))).rejects.toThrow('ENOENT');
  });
});

describe('an ONNX file', () => {
  it('has no unused tensor, no node twice, and frees what it needed', async () => {
    using denoiser = tinyDenoiser(1);
    await collectGarbage();
    const before = torch.liveTensors();
    const file = join(dir, 'lean.onnx');
    const { tensors } = await exportOnnx(file, denoiser, infoOf(denoiser.spec), {});
    expect(torch.liveTensors()).toBe(before);
    const { graph, opsetImport, irVersion } = await readModel(file);
    expect([opsetImport[0].version, irVersion]).toEqual([18n, 8n]);
    const used = new Set(graph!.node.flatMap(({ input }) => input));
    expect(graph!.initializer.map(({ name }) => name).filter((name) => !used.has(name))).toEqual([]);
    expect(graph!.initializer).toHaveLength(tensors);
    expect(graph!.node.filter(({ opType }) => opType === 'Identity')).toEqual([]);
    const keys = graph!.node.map(
      ({ opType, input, attribute }) =>
        `${opType} ${input} ${attribute.map(({ name, i, ints, f }) => [name, i, ints, f])}`,
    );
    expect(new Set(keys).size).toBe(keys.length);
  });

  it('says what a sampler needs', async () => {
    const spec: PrecondSpec = {
      ...SPECS['DDPM++ with coordinates and classes'],
      ...{ image: { height: 16, width: 24 } },
    };
    using denoiser = makeDenoiser(spec);
    const file = join(dir, 'described.onnx');
    const dataset = { name: 'pets', classNames: ['cat', 'dog', 'owl'] };
    await exportOnnx(file, denoiser, infoOf(spec, { dataset, nimg: 1000 }), { license: 'Free to use.' });
    const { patch_diffusion: json, license } = metadataOf(await readModel(file));
    expect(license).toBe('Free to use.');
    expect(JSON.parse(json) as OnnxDenoiserInfo).toEqual({
      ...{ kind: 'onnx-denoiser', formatVersion: 1, precision: 'fp32', precond: spec, nimg: 1000 },
      ...{ image: { height: 16, width: 24 }, channels: 3, sizeMultiple: 2, hasPositions: true, labelDim: 3 },
      ...{ sigmaMin: 0, sigmaMax: null, sigmaData: 0.5, noiseLevels: null, dataset, latents: null },
      sampler: {
        ...{ sampler: 'edm', numSteps: 18, sigmaMin: 0.002, sigmaMax: 80, rho: 7 },
        ...{ sChurn: 0, sMin: 0, sMax: null, sNoise: 1 },
      },
    });
  });

  it('of iDDPM lists its noise levels', async () => {
    const spec: PrecondSpec = { type: 'iddpm', network: { ...song, outChannels: 6 }, M: 10 };
    using denoiser = makeDenoiser(spec);
    const file = join(dir, 'levels.onnx');
    await exportOnnx(file, denoiser, infoOf(spec), {});
    const info = JSON.parse(metadataOf(await readModel(file)).patch_diffusion) as OnnxDenoiserInfo;
    expect(info.noiseLevels).toHaveLength(11);
    expect([info.noiseLevels![0], info.noiseLevels![9]]).toEqual([info.sigmaMax, info.sigmaMin]);
    expect(info.sigmaData).toBeNull();
  });

  it.each([
    ['fp16', 1e6, /model\..* holds values that float16 cannot hold; export with --precision fp32 or int8/],
    ['fp32', Number.NaN, /model\..* holds values that are not finite; export an earlier snapshot/],
    ['int8', Number.POSITIVE_INFINITY, /model\..* holds values that are not finite/],
  ] as const)('%s of a weight %s is refused', async (precision, value, message) => {
    using denoiser = tinyDenoiser(1);
    torch.noGrad(() => denoiser.stateDict().get('model.enc.8x8_conv.weight')!.fill_(value));
    const file = join(dir, 'refused.onnx');
    const failing = exportOnnx(file, denoiser, infoOf(denoiser.spec), { precision });
    await expect(failing).rejects.toMatchObject({
      name: 'UserError',
      message: expect.stringMatching(message),
    });
    await expect(readFile(file)).rejects.toThrow('ENOENT');
  });
});

describe('export --format onnx', () => {
  const run = join(import.meta.dirname, '../fixtures/old-run/runs/00000-cats-16-old');

  it('writes the newest snapshot of a run, with the licence', async () => {
    const copy = join(dir, 'run');
    await cp(run, copy, { recursive: true });
    await writeFile(join(dir, 'licence.txt'), 'Do as you like.\n');
    const license = ['--license', join(dir, 'licence.txt')];
    const result = await runCli([
      'export',
      '--run',
      copy,
      '--format',
      'onnx',
      '--precision',
      'int8',
      ...license,
    ]);
    expect(result.code, result.stderr).toBe(0);
    const file = join(copy, 'snapshots/network-snapshot-000001.onnx');
    expect(result.stdout.trim()).toBe(file);
    expect(metadataOf(await readModel(file)).license).toBe('Do as you like.\n');
  });

  it.each([
    [
      ['--format', 'onnx', '--license', 'absent.txt'],
      1,
      'cannot read the licence absent.txt: it does not exist',
    ],
    [['--format', 'torch', '--precision', 'int8'], 2, '--precision is for --format onnx; leave it out'],
    [['--format', 'torch', '--license', 'a.txt'], 2, '--license is for --format onnx; leave it out'],
    [['--format', 'onnx', '--autoencoder', 'vae'], 2, '--autoencoder: this network was trained on pixels'],
  ])('%s: exit code %i and what is wrong', async (flags, code, message) => {
    const result = await runCli(['export', '--run', run, '--out', join(dir, 'x'), ...flags]);
    expect(result).toMatchObject({ code, stderr: expect.stringContaining(message) });
  });
});
