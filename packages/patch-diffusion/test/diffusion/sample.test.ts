import * as torch from '@patch-diffusion/torch';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { PortableRandom } from '../../src/common/portable-random.js';
import { type Label, labelRows } from '../../src/diffusion/labels.js';
import { type SampleOptions, sampleImages } from '../../src/diffusion/sample.js';
import { PerSampleRandom } from '../../src/diffusion/sample-noise.js';
import { runStep, type SolverState } from '../../src/diffusion/samplers/array-math.js';
import { planSampler, SAMPLERS } from '../../src/diffusion/samplers/index.js';
import { tensorMath } from '../../src/diffusion/tensor-math.js';
import { coordinateGrid } from '../../src/patches/coordinate-grid.js';
import { expectClose } from '../helpers/golden.js';
import { tinyDenoiser } from '../helpers/tiny-denoiser.js';

const denoiser = tinyDenoiser(1, 3);
afterAll(() => denoiser.dispose());

const seedLists = fc.uniqueArray(fc.integer({ min: 0, max: 2 ** 40 }), { minLength: 1, maxLength: 4 });

describe('one random stream per sample', () => {
  it('gives a seed the same numbers whatever its neighbours are', () => {
    fc.assert(
      fc.property(seedLists, fc.integer({ min: 0, max: 2 ** 40 }), fc.nat(3), (others, seed, at) => {
        const place = Math.min(at, others.length);
        const seeds = [...others.slice(0, place), seed, ...others.slice(place)];
        torch.scope(() => {
          const [together, alone] = [new PerSampleRandom(seeds), new PerSampleRandom([seed])];
          for (const draw of [0, 1, 2]) {
            const [a, b] = [together.randn([2, 3]), alone.randn([2, 3])];
            expectClose(a.narrow(0, place, 1), b, 0, 0, `draw ${draw}`);
            expect(together.integers(10)[place]).toBe(alone.integers(10)[0]);
          }
        });
      }),
    );
  });

  it('gives a seed the same picture whatever its neighbours are', async () => {
    await fc.assert(
      fc.asyncProperty(
        seedLists,
        fc.constantFrom(...SAMPLERS),
        fc.constantFrom(0, 20),
        async (seeds, sampler, churn) => {
          const options = { numSteps: 3, sampler, sChurn: churn } satisfies Partial<SampleOptions>;
          const together = await sampleImages(denoiser, { ...options, seeds });
          for (const [n, seed] of seeds.entries()) {
            const alone = await sampleImages(denoiser, { ...options, seeds: [seed] });
            // Sums run in another order in another batch; three large steps of float32 networks amplify that.
            expectClose(together.narrow(0, n, 1), alone, 1e-4, 0, `seed ${seed}`);
            alone.dispose();
          }
          together.dispose();
        },
      ),
      { numRuns: 15 },
    );
  });
});

describe('sampleImages', () => {
  it.each(SAMPLERS)('%s leaves no tensor behind', async (sampler) => {
    await collectGarbage();
    const before = torch.liveTensors();
    const guide = { scale: 2, interval: [0.1, 10] as [number, number] };
    const images = await sampleImages(denoiser, { seeds: [1, 2], numSteps: 3, sampler, guidance: guide });
    expect(images.shape).toEqual([2, 3, 8, 8]);
    expect(images.toFloat32Array().every(Number.isFinite)).toBe(true);
    images.dispose();
    expect(torch.liveTensors()).toBe(before);
  });

  it('frees everything when it is stopped', async () => {
    await collectGarbage();
    const before = torch.liveTensors();
    const controller = new AbortController();
    const stop = (step: number) => step === 2 && controller.abort(new Error('enough'));
    const options = {
      seeds: [1],
      numSteps: 4,
      sampler: 'dpmpp-2m',
      signal: controller.signal,
      onStep: stop,
    } as const;
    await expect(sampleImages(denoiser, options as unknown as SampleOptions)).rejects.toThrow('enough');
    expect(torch.liveTensors()).toBe(before);
  });
});

describe('portable noise', () => {
  it('is PortableRandom: the start, the label and every step', async () => {
    const seed = 12;
    const random = new PortableRandom(seed);
    const size = 3 * 8 * 8;
    const plan = planSampler({ numSteps: 3, sChurn: 20 }, denoiser);
    let label: readonly Label[] = [];
    const drawn = await sampleImages(denoiser, {
      ...{ seeds: [3, seed], numSteps: 3, sChurn: 20, noise: 'portable' },
      onLabels: (labels) => (label = labels),
    });
    expect(label[1]).toBe(random.label(3));

    // The same sampling by the library's parts.
    const tensor = (values: Float32Array) =>
      torch.tensor(values, { shape: [1, 3, 8, 8] }).to({ dtype: 'float64' });
    const inputs = {
      positions: torch.tensor(coordinateGrid(denoiser.imageExtent, denoiser.imageExtent), {
        shape: [1, 2, 8, 8],
      }),
      classLabels: torch.tensor(labelRows(label.slice(1), 3), { shape: [1, 3] }),
    };
    let state: SolverState<torch.Tensor> = { x: tensor(random.startNoise(size)).mul(plan.initialScale) };
    for (let i = 0; i < 3; i++) {
      const noise = tensor(random.stepNoise(i, size));
      state = runStep(plan.step(tensorMath, i, state, noise), ({ x, sigma }) =>
        torch.noGrad(() => denoiser.forward(x, sigma, inputs).to({ dtype: 'float64' })),
      );
    }
    expectClose(drawn.narrow(0, 1, 1), state.x, 1e-4, 0, 'sample');
    drawn.dispose();
  });
});

describe('labels of samples', () => {
  const seeds = Array.from({ length: 64 }, (_, seed) => seed);
  const base = { numSteps: 2, sChurn: 20 } satisfies Partial<SampleOptions>;

  /** Images, and the labels that they were drawn with. */
  async function draw(options: SampleOptions) {
    let labels: readonly Label[] = [];
    const images = await sampleImages(denoiser, {
      ...base,
      ...options,
      onLabels: (drawn) => (labels = drawn),
    });
    const values = images.toFloat32Array();
    images.dispose();
    return { values, labels };
  }

  it('are drawn as ever where every class may be, and a class that is named changes no other draw', async () => {
    const free = await draw({ seeds: [5] });
    // Recorded before labels could be restricted.
    expect((await draw({ seeds })).labels.slice(0, 8)).toEqual([0, 0, 2, 1, 0, 2, 1, 1]);
    expect(await draw({ seeds: [5], labels: [0, 1, 2] })).toEqual(free);
    expect(await draw({ seeds: [5], classIndex: free.labels[0] as number })).toEqual(free);
  });

  it('are only those that are given', async () => {
    const { labels } = await draw({ seeds, labels: [0, 2] });
    expect(labels).toHaveLength(64);
    expect(new Set(labels)).toEqual(new Set([0, 2]));
  });

  it('may be vectors', async () => {
    const vectors = [
      [0.3, 103, -1],
      [0, 1, 0],
    ];
    const { labels } = await draw({ seeds, labels: vectors });
    expect(new Set(labels)).toEqual(new Set(vectors));
    const [vector, asClass] = [
      await draw({ seeds: [1], labels: [vectors[1]] }),
      await draw({ seeds: [1], classIndex: 1 }),
    ];
    expect(vector.values).toEqual(asClass.values);
    expect((await draw({ seeds: [1], labels: [vectors[0]] })).values).not.toEqual(asClass.values);
  });
});
