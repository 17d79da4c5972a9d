/** The parts that need no browser: what a file says of itself, which options a model has, and pixels. */
import { create, toBinary } from '@bufbuild/protobuf';
import * as torch from '@patch-diffusion/torch';
import { toUint8 } from 'patch-diffusion/method';
import type { OnnxDenoiserInfo } from 'patch-diffusion/samplers';
import { describe, expect, it } from 'vitest';
import { ModelProtoSchema } from '../../patch-diffusion/src/formats/onnx/onnx_pb.js';
import { describeDecoder, describeDenoiser } from '../src/onnx-file.js';
import type { SampleSettings } from '../src/options.js';
import { toRgba } from '../src/picture.js';
import { resolveSampling } from '../src/resolve.js';

const info = {
  ...{ kind: 'onnx-denoiser', formatVersion: 1, precision: 'fp32', image: { width: 32, height: 16 } },
  ...{ channels: 3, sizeMultiple: 4, hasPositions: true, labelDim: 4, sigmaMin: 0, sigmaMax: null },
  ...{ noiseLevels: null, latents: null, nimg: 12_000, dataset: { name: 'x', classNames: null } },
  sampler: {
    ...{ sampler: 'edm', numSteps: 9, sChurn: 5, sigmaMin: 0.002, sigmaMax: 80, rho: 7 },
    ...{ sMin: 0, sMax: null, sNoise: 1 },
  },
} as unknown as OnnxDenoiserInfo;

/** An ONNX file with a graph of nothing. */
function onnxFile(metadata: Record<string, string>): Uint8Array {
  const metadataProps = Object.entries(metadata).map(([key, value]) => ({ key, value }));
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, { irVersion: 8n, graph: { name: 'g' }, metadataProps }),
  );
}

const file = (description: unknown, more = {}) =>
  onnxFile({ patch_diffusion: JSON.stringify(description), ...more });

describe('an ONNX file', () => {
  it('describes its network', () => {
    expect(describeDenoiser(file(info, { license: 'MIT' }), 'a.onnx')).toEqual({ info, license: 'MIT' });
  });

  it.each([
    [
      'of another program',
      onnxFile({ producer: 'x' }),
      'FOREIGN_MODEL',
      /a.onnx is an ONNX file of another program/,
    ],
    ['with broken JSON', onnxFile({ patch_diffusion: '{' }), 'FOREIGN_MODEL', /of another program/],
    ['of another kind', file({ kind: 'snapshot', formatVersion: 1 }), 'FOREIGN_MODEL', /of another program/],
    [
      'that is a decoder',
      file({ kind: 'onnx-decoder', formatVersion: 1 }),
      'FOREIGN_MODEL',
      /is the decoder/,
    ],
    ['of a newer version', file({ ...info, formatVersion: 2 }), 'NEWER_FORMAT', /format 2.*use a newer/],
    ['that is empty', new Uint8Array(), 'BAD_FILE', /is empty/],
    ['that is a page', new TextEncoder().encode('<!DOCTYPE html>'), 'BAD_FILE', /is a web page/],
    [
      'of git-lfs',
      new TextEncoder().encode('version https://git-lfs.github.com/spec/v1\n'),
      'BAD_FILE',
      /git lfs/,
    ],
    ['of random bytes', new Uint8Array(500).fill(0x2f), 'BAD_FILE', /is no ONNX file/],
    ['that is cut off', file(info).subarray(0, 40), 'BAD_FILE', /cut off/],
  ])('%s is refused', (_, bytes, code, message) => {
    expect(() => describeDenoiser(bytes, 'a.onnx')).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  it('of a network is no decoder', () => {
    expect(() => describeDecoder(file(info), 'a.onnx')).toThrow(/a.onnx is a model, not a decoder/);
  });
});

describe('options', () => {
  it('are those recorded with the network where they are not given', () => {
    const { sampler, window, seeds } = resolveSampling({}, info);
    expect(sampler).toEqual({ sampler: 'edm', numSteps: 9, sChurn: 5 });
    expect(window).toEqual({ width: 32, height: 16, xStart: 0, yStart: 0 });
    expect(seeds).toEqual([0]);
    expect(resolveSampling({ sampler: 'dpmpp-2m' }, info).sampler).toMatchObject({ numSteps: 18, sChurn: 0 });
    const stochastic = {
      ...info,
      sampler: { ...info.sampler, sampler: 'dpmpp-2m-sde', sChurn: 0 },
    } as OnnxDenoiserInfo;
    expect(resolveSampling({}, stochastic).sampler).toMatchObject({ sampler: 'dpmpp-2m-sde', numSteps: 9 });
  });

  it('of a window are pixels of the pictures where the network sees latents', () => {
    const latent = { ...info, latents: { downFactor: 8 } } as OnnxDenoiserInfo;
    const window = { width: 64, height: 32, xStart: -8, yStart: 16 };
    expect(resolveSampling({ window }, latent).window).toEqual({
      width: 8,
      height: 4,
      xStart: -1,
      yStart: 2,
    });
  });

  const some = { ...info, dataset: { name: 'x', classNames: null, labels: [0, 2] } } as OnnxDenoiserInfo;
  const none = { ...info, labelDim: 0 } as OnnxDenoiserInfo;
  it.each([
    [{ seeds: [] }, info, /seeds: give at least one/],
    [{ seeds: [1, -1] }, info, /seeds: -1 is not an integer ≥ 0/],
    [{ steps: 0 }, info, /steps: 0 is not an integer ≥ 1/],
    [{ batch: 1.5 }, info, /batch: 1.5/],
    [{ sampler: 'ddim' as 'edm' }, info, /"ddim" is none of edm, dpmpp-2m/],
    [{ sampler: 'dpmpp-2m', sChurn: 3 }, info, /sChurn belongs to the samplers edm and generalised/],
    [{ solver: 'euler' }, info, /solver belongs to the sampler generalised/],
    [{ sampler: 'generalised', schedule: 'cosine' as 'vp' }, info, /"cosine" is none of vp, ve, linear/],
    [{ rho: Number.NaN }, info, /rho: NaN/],
    [{ sigmaMin: 3, sigmaMax: 2 }, info, /sigmaMin 3 must be above 0 and below sigmaMax 2/],
    [{ classIndex: 4 }, info, /classIndex 4: this network has the classes 0 to 3/],
    [{ classIndex: 1 }, some, /classIndex 1: this network has the classes 0, 2/],
    [{ classIndex: 0 }, none, /trained without class labels/],
    [{ classIndex: 0, label: [1, 0, 0, 0] }, info, /not both/],
    [{ label: [1] }, info, /a label of this network has 4 numbers/],
    [{ guidance: 2 }, none, /guidance: .* without class labels/],
    [{ guidance: -1 }, info, /guidance: -1/],
    [{ window: { width: 30, height: 16 } }, info, /window.width: 30 is not a multiple of 4/],
  ] satisfies [SampleSettings, OnnxDenoiserInfo, RegExp][])('%j is refused', (settings, model, message) => {
    expect(() => resolveSampling(settings, model)).toThrow(
      expect.objectContaining({ code: 'BAD_OPTION', message: expect.stringMatching(message) }),
    );
  });
});

describe('pixels', () => {
  it.each([1, 3, 4])('of %d channels are those of Node', (channels) => {
    const values = Float64Array.from({ length: channels * 6 }, (_, i) => Math.sin(i) * 1.2);
    const bytes = toUint8(torch.tensor(values, { shape: [1, channels, 2, 3] }));
    const rgba = toRgba(values, channels);
    for (let p = 0; p < 6; p++) {
      const pixel = Array.from({ length: channels }, (_, c) => bytes[c * 6 + p]);
      const [r, g = r, b = r, a = 255] = pixel;
      expect([...rgba.subarray(p * 4, p * 4 + 4)]).toEqual([r, g, b, a]);
    }
  });
});
