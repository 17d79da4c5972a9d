import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { checkPrecision, prepareDenoiser } from '../../src/diffusion/device.js';
import { activationDtype, PRECISIONS } from '../../src/diffusion/precision.js';
import { networkFromOfficial } from '../../src/interchange/official-config.js';
import { createNetwork } from '../../src/networks/index.js';
import type { Formula } from '../helpers/formula.js';
import { describeAbsent, difference, goldenDir, goldenFiles, openGolden, replay } from '../helpers/golden.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

/** Largest |difference| from float32 / largest |value|: a few roundings (2⁻⁹ and 2⁻¹²) on top of each other. */
const TOLERANCE = { bfloat16: 0.05, float16: 0.007 } as const;

interface NetworkConfig {
  net: { class: string; kwargs: Record<string, unknown> };
  inputs: string[];
  formula?: Formula;
}

const dir = join(goldenDir, 'networks');
// Weights that a formula gives belong to full-size networks, too slow in float16 on a CPU.
const files = goldenFiles('networks').filter((name) => {
  const { config, file } = openGolden<NetworkConfig>(join(dir, name));
  file.close();
  return !config.formula;
});

/** libtorch 1.13 has no float16 convolution on a CPU; nor does the command line use one (fp16 needs a GPU). */
function convolves(dtype: torch.DType): boolean {
  try {
    torch.scope(() =>
      torch.conv2d(torch.zeros([1, 1, 3, 3], { dtype }), torch.zeros([1, 1, 3, 3], { dtype })),
    );
    return true;
  } catch {
    console.warn(`skipped, this libtorch does not convolve ${dtype} on a CPU`);
    return false;
  }
}

const half = { bfloat16: true, float16: convolves('float16') };

if (files.length === 0) describeAbsent('networks');
else
  describe.each(['bfloat16', 'float16'] as const)('golden networks in %s', (dtype) => {
    it.skipIf(!half[dtype]).each(files)('%s', (name) => {
      const golden = openGolden<NetworkConfig>(join(dir, name));
      const { config, tensor, has, group } = golden;
      const net = createNetwork(networkFromOfficial(config.net.class, config.net.kwargs)).eval();
      net.loadStateDict(group('param.'));
      const tag = config.inputs[0];
      const at = (kind: string, what: string) => `${kind}.${tag ? `${tag}.` : ''}${what}`;
      const optional = (what: string) => (has(at('in', what)) ? tensor(at('in', what)) : null);
      torch.noGrad(() =>
        torch.scope(() => {
          const run = (dtype: torch.DType) =>
            net.forward(tensor(at('in', 'x')).to({ dtype }), tensor(at('in', 'noise_labels')), {
              classLabels: optional('class_labels'),
              augmentLabels: optional('augment_labels'),
              random: replay(group(at('in', 'draw.'))),
            });
          const actual = run(dtype);
          expect(actual.dtype).toBe(dtype);
          const { max, scale } = difference(actual, run('float32'));
          expect(max / scale).toBeLessThan(TOLERANCE[dtype]);
          expect(max, 'differs at all').toBeGreaterThan(0);
        }),
      );
      net.dispose();
      golden.file.close();
    });
  });

describe('a denoiser', () => {
  it.each(PRECISIONS.filter((precision) => half.float16 || precision !== 'fp16'))(
    'gives float32 and keeps float32 weights in %s',
    (precision) => {
      const denoiser = tinyDenoiser(1);
      torch.scope(() => {
        const x = torch.randn([2, 3, 8, 8], { generator: new torch.Generator('cpu', 3) });
        const positions = torch.zeros([1, 2, 8, 8]);
        const expected = denoiser.forward(x, 0.5, { positions });
        denoiser.computeDtype = activationDtype(precision);
        const D = denoiser.forward(x, 0.5, { positions });
        expect(D.dtype).toBe('float32');
        const { max, scale } = difference(D, expected);
        expect(max / scale).toBeLessThan(0.03);
        for (const parameter of denoiser.parameters()) expect(parameter.dtype).toBe('float32');
      });
      denoiser.dispose();
    },
  );

  it('is not prepared for float16 on a CPU', () => {
    const denoiser = tinyDenoiser(1);
    expect(() => prepareDenoiser(denoiser, 'cpu', 'fp16')).toThrow(/--precision fp16 needs a GPU; .*bf16/);
    expect(() => checkPrecision('fp16', 'cuda')).not.toThrow();
    expect(prepareDenoiser(denoiser, 'cpu', 'bf16').computeDtype).toBe('bfloat16');
    denoiser.dispose();
  });
});
