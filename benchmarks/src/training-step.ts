/**
 * Our training step under the clock: the very function that the training loop calls, on random images. The phases
 * are told apart by clocks in what is passed to it (batch, optimiser) and around `backward`.
 */
import * as torch from '@patch-diffusion/torch';
import { Adam, type AdamPath, type Tensor } from '@patch-diffusion/torch';
import type { ImageSet } from 'patch-diffusion';
import {
  createDenoiser,
  type Denoiser,
  denoisingLoss,
  makePatchBatch,
  type PatchSize,
  patchSizes,
  precondSpec,
  type RandomSource,
  type StepOptions,
  TorchRandom,
  type TrainingState,
  trainStep,
} from 'patch-diffusion/method';
import type { BenchOptions } from './options.js';
import { now } from './timing.js';

/**
 * Seconds of one step. `batch` is cutting and converting the patches, `update` all that follows `backward`,
 * `cpu` the processor time of all threads.
 */
export interface StepTimes {
  readonly total: number;
  readonly batch: number;
  readonly forward: number;
  readonly backward: number;
  readonly update: number;
  readonly cpu: number;
}

/** Fixed inputs of a loss, for comparing two implementations. */
export interface ProbeBatch {
  readonly images: Tensor;
  readonly coords: Tensor;
  readonly normal: Tensor;
  readonly noise: Tensor;
}

export class TrainingStep {
  readonly denoiser: Denoiser;
  readonly sizes: readonly PatchSize[];
  readonly #bench: BenchOptions;
  readonly #optimizer: Adam;
  readonly #state: TrainingState;
  readonly #images: ImageSet;
  readonly #options: StepOptions;

  constructor(bench: BenchOptions) {
    this.#bench = bench;
    torch.manualSeed(0);
    const { resolution } = bench.train;
    const side = typeof resolution === 'number' ? resolution : 64;
    const image = { height: side, width: side };
    const shape = { ...image, channels: 3, labelDim: 0, latents: null, std: null };
    this.#images = randomImages(image, 64);
    const spec = precondSpec(bench.train, shape);
    const make = (): Denoiser => {
      const memoryFormat = bench.channelsLast ? 'channelsLast' : 'preserve';
      return createDenoiser(spec).to({ device: bench.device, memoryFormat });
    };
    this.denoiser = make();
    spreadWeights(this.denoiser);
    const ema = make().requiresGrad(false);
    ema.loadStateDict(this.denoiser.stateDict());
    this.sizes = patchSizes(bench.train, shape);
    const { lossNorm, emaHalflifeKimg, emaRampupRatio } = bench.train;
    this.#options = {
      ...{ source: this.#images, device: bench.device, loss: { type: 'edm' } },
      ...{ lr: 1e-4, lrRampupKimg: 0, lossScaling: 1, lossNorm, emaHalflifeKimg, emaRampupRatio },
      ...{ augment: null, augmentAt: 'patch' },
    };
    this.#optimizer = new Adam(this.denoiser.namedParameters(), { lr: 1e-4 });
    this.#state = { denoiser: this.denoiser, ema, optimizer: this.#optimizer, nimg: 0, step: 0 };
  }

  /** The path that our optimiser takes with this libtorch. */
  get adamPath(): AdamPath {
    return this.#optimizer.path;
  }

  /** Images of one step at a patch size. */
  count(patch: PatchSize): number {
    return this.#bench.batch * patch.multiplier;
  }

  /** One whole training step. */
  async run(patch: PatchSize): Promise<StepTimes> {
    const { device } = this.#bench;
    const indices = Array.from({ length: this.count(patch) }, (_, i) => i % this.#images.length);
    const random = new TorchRandom(device);
    let batchEnd = 0;
    const timed: RandomSource = {
      rand: (name, shape) => random.rand(name, shape),
      // Noise levels are the first draw after the batch is made.
      randn: (name, shape) => {
        if (name === 'rnd_normal') batchEnd = now(device);
        return random.randn(name, shape);
      },
      randint: (name, low, high, shape) => random.randint(name, low, high, shape),
    };
    const microBatch = { patch, indices, weight: 1, random: timed, positionRandom: new TorchRandom() };
    this.denoiser.train();
    const cpuBefore = process.cpuUsage();
    const start = now(device);
    const backward = await timedBackward(device, () =>
      trainStep(this.#state, { microBatches: [microBatch], nimg: indices.length }, this.#options),
    );
    const end = now(device);
    const cpu = process.cpuUsage(cpuBefore);
    return {
      total: end - start,
      batch: batchEnd - start,
      forward: backward.start - batchEnd,
      backward: backward.end - backward.start,
      update: end - backward.end,
      cpu: (cpu.user + cpu.system) / 1e6,
    };
  }

  /** Inputs for {@link loss} at a patch size; the caller disposes them. */
  probe(patch: PatchSize): ProbeBatch {
    const { device } = this.#bench;
    return torch.scope(() => {
      const indices = Array.from({ length: 4 }, (_, i) => i);
      const random = new TorchRandom(device);
      const { images, positions } = makePatchBatch(this.#images, indices, patch, { random, device });
      const normal = torch.randn([4, 1, 1, 1], { device });
      return { images, coords: positions!, normal, noise: torch.randn(images.shape, { device }) };
    });
  }

  /** The summed loss of given inputs and draws, in evaluation mode, and the norm of the gradient of its mean. */
  loss({ images, coords, normal, noise }: ProbeBatch): { loss: number; gradNorm: number } {
    const draws: Record<string, Tensor> = { rnd_normal: normal, noise };
    const given = (name: string): Tensor => draws[name];
    const random: RandomSource = { rand: given, randn: given, randint: given };
    this.denoiser.eval().zeroGrad();
    return torch.scope(() => {
      const loss = denoisingLoss(this.denoiser, { images, positions: coords }, random).sum();
      loss.div(images.shape[0]).backward();
      const norms = this.denoiser.parameters().map(({ grad }) => grad!.norm());
      const result = { loss: loss.item(), gradNorm: torch.stack(norms).norm().item() };
      this.denoiser.zeroGrad();
      return result;
    });
  }
}

/** A fresh network's output is almost zero whatever its body computes: a comparison needs weights that matter. */
function spreadWeights(denoiser: Denoiser): void {
  torch.noGrad(() =>
    torch.scope(() => {
      for (const parameter of denoiser.parameters())
        parameter.add_(torch.randn(parameter.shape, { device: parameter.device }), { alpha: 0.02 });
    }),
  );
}

/** Runs `fn` and notes when its one `backward` begins and ends. */
async function timedBackward(
  device: string,
  fn: () => Promise<unknown>,
): Promise<{ start: number; end: number }> {
  const original = torch.Tensor.prototype.backward;
  const times = { start: 0, end: 0 };
  torch.Tensor.prototype.backward = function (...args) {
    times.start = now(device);
    original.apply(this, args);
    times.end = now(device);
  };
  try {
    await fn();
  } finally {
    torch.Tensor.prototype.backward = original;
  }
  return times;
}

/** Decoded images in memory, as after the first pass over a real set. */
function randomImages(image: { height: number; width: number }, length: number): ImageSet {
  const [channels, plane] = [3, image.height * image.width];
  const pixels = torch.scope(
    () => torch.randint(0, 256, [length * channels * plane], { dtype: 'uint8' }).toTypedArray() as Uint8Array,
  );
  return {
    ...{ name: 'random', path: '', length, baseLength: length, channels, ...image },
    ...{ labelDim: 0, classNames: null, latents: null, std: null, report: { used: length, skipped: [] } },
    ready: async () => {},
    labelOf: () => null,
    labels: () => new Float32Array(0),
    close: async () => {},
    gather(indices, { size, rows, cols }, out) {
      const { height, width } = typeof size === 'number' ? { height: size, width: size } : size;
      const result = out ?? new Uint8Array(indices.length * channels * height * width);
      let at = 0;
      for (let n = 0; n < indices.length; n++) {
        for (let c = 0; c < channels; c++) {
          for (let y = 0; y < height; y++, at += width) {
            const from = (indices[n] * channels + c) * plane + (rows[n] + y) * image.width + cols[n];
            result.set(pixels.subarray(from, from + width), at);
          }
        }
      }
      return result;
    },
  };
}
