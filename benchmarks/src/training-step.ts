/**
 * Our training step under the clock: the very function that the training loop calls, on random images. The phases
 * are told apart by clocks in what is passed to it (batch, optimiser) and around `backward`.
 */
import * as torch from '@patch-diffusion/torch';
import { Adam, type Tensor } from '@patch-diffusion/torch';
import type { TrainOptions } from 'patch-diffusion';
import {
  createDenoiser,
  type Denoiser,
  denoisingLoss,
  makePatchBatch,
  PassGraphs,
  type PatchSize,
  type PatchSource,
  patchSizes,
  precondSpec,
  prepareDenoiser,
  type RandomSource,
  type StepOptions,
  TorchRandom,
  type TrainingState,
  trainStep,
} from 'patch-diffusion/method';
import { spreadWeights } from './spread-weights.js';
import { now, type StepSeconds } from './timing.js';

/** Seconds of one step. `batch` is cutting and converting the patches, `update` all that follows `backward`. */
export interface StepTimes extends StepSeconds {
  readonly batch: number;
  readonly forward: number;
  readonly backward: number;
  readonly update: number;
}

/** What is trained, and how. */
export interface TrainingSettings {
  readonly train: TrainOptions;
  /** Images per full-size step. */
  readonly batch: number;
  readonly device: string;
  readonly precision: TrainOptions['precision'];
  /** Whether passes become graphs, where the device has them; true by default. */
  readonly withGraphs?: boolean;
}

/** Fixed inputs of a loss, for comparing two implementations. */
export interface ProbeBatch {
  readonly images: Tensor;
  readonly coords: Tensor;
  readonly normal: Tensor;
  readonly noise: Tensor;
}

/** Images in memory that patches are cut from. */
const IMAGES = 64;

export class TrainingStep {
  readonly denoiser: Denoiser;
  readonly sizes: readonly PatchSize[];
  readonly #settings: TrainingSettings;
  readonly #state: TrainingState;
  readonly #images: PatchSource;
  readonly #options: StepOptions;
  #whyNoGraphs: string | null = null;

  constructor(settings: TrainingSettings) {
    this.#settings = settings;
    const { train, device, precision } = settings;
    torch.manualSeed(0);
    const side = train.resolution as number;
    const shape = { height: side, width: side, channels: 3, labelDim: 0, latents: null, std: null };
    this.#images = randomImages(side);
    const spec = precondSpec(train, shape);
    const make = (): Denoiser => prepareDenoiser(createDenoiser(spec), device, precision);
    this.denoiser = make();
    spreadWeights(this.denoiser);
    const ema = make().requiresGrad(false);
    ema.loadStateDict(this.denoiser.stateDict());
    this.sizes = patchSizes(train, shape);
    const { lossNorm, emaHalflifeKimg, emaRampupRatio } = train;
    const graphs =
      torch.hasGraphs(device) && (settings.withGraphs ?? true)
        ? new PassGraphs({
            pool: new torch.GraphPool(device),
            parameters: this.denoiser.parameters(),
            isRepeatable: train.dropout === 0,
            onGiveUp: (reason) => {
              this.#whyNoGraphs = reason;
            },
          })
        : null;
    this.#options = {
      ...{ source: this.#images, device, loss: { type: 'edm' } },
      ...{ lr: 1e-4, lrRampupKimg: 0, lossScaling: 1, lossNorm, emaHalflifeKimg, emaRampupRatio },
      ...{ augment: null, augmentAt: 'patch', graphs, readsLater: device.startsWith('cuda') },
    };
    const optimizer = new Adam(this.denoiser.namedParameters(), { lr: 1e-4 });
    this.#state = { denoiser: this.denoiser, ema, optimizer, nimg: 0, step: 0 };
  }

  /** Why passes are no graphs although they were to be, or null. */
  get whyNoGraphs(): string | null {
    return this.#whyNoGraphs;
  }

  /** Frees network, average and optimiser. */
  dispose(): void {
    this.#options.graphs?.dispose();
    this.denoiser.dispose();
    this.#state.ema.dispose();
    this.#state.optimizer.dispose();
  }

  /** What the activations are: `auto` has become one of them. */
  get dtype(): Denoiser['computeDtype'] {
    return this.denoiser.computeDtype;
  }

  /** Images of one step at a patch size. */
  count(patch: PatchSize): number {
    return this.#settings.batch * patch.multiplier;
  }

  /** One whole training step, whose parts are told apart: a GPU is waited for at each. */
  async run(patch: PatchSize): Promise<StepTimes> {
    const { device } = this.#settings;
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
    let backward = { start: 0, end: 0 };
    const { start, end, cpu } = await this.#timed(async () => {
      backward = await timedBackward(device, () => this.#update(patch, timed));
    });
    return {
      wall: end - start,
      batch: batchEnd - start,
      forward: backward.start - batchEnd,
      backward: backward.end - backward.start,
      update: end - backward.end,
      cpu,
    };
  }

  /** One whole training step as a training makes it: a GPU is waited for only where the step itself does, and at its end. */
  async runWhole(patch: PatchSize): Promise<StepSeconds> {
    const { start, end, cpu } = await this.#timed(() =>
      this.#update(patch, new TorchRandom(this.#settings.device)),
    );
    return { wall: end - start, cpu };
  }

  async #timed(work: () => Promise<unknown>): Promise<{ start: number; end: number; cpu: number }> {
    const { device, precision } = this.#settings;
    torch.setFlag('tf32', precision === 'tf32'); // a switch of the whole library
    this.denoiser.train();
    const cpuBefore = process.cpuUsage();
    const start = now(device);
    await work();
    const end = now(device);
    const { user, system } = process.cpuUsage(cpuBefore);
    return { start, end, cpu: (user + system) / 1e6 };
  }

  #update(patch: PatchSize, random: RandomSource): Promise<unknown> {
    const indices = Array.from({ length: this.count(patch) }, (_, i) => i % IMAGES);
    const microBatch = { patch, indices, weight: 1, random, positionRandom: new TorchRandom() };
    return trainStep(this.#state, { microBatches: [microBatch], nimg: indices.length }, this.#options);
  }

  /** Inputs for {@link loss} at a patch size; the caller disposes them. */
  probe(patch: PatchSize): ProbeBatch {
    const { device } = this.#settings;
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
function randomImages(side: number): PatchSource {
  const [channels, plane] = [3, side * side];
  const pixels = torch.scope(
    () => torch.randint(0, 256, [IMAGES * channels * plane], { dtype: 'uint8' }).toTypedArray() as Uint8Array,
  );
  return {
    ...{ channels, height: side, width: side, labelDim: 0, latents: null },
    labels: () => new Float32Array(0),
    gather(indices, { size, rows, cols }) {
      const { height, width } = typeof size === 'number' ? { height: size, width: size } : size;
      const result = new Uint8Array(indices.length * channels * height * width);
      let at = 0;
      for (let n = 0; n < indices.length; n++) {
        for (let c = 0; c < channels; c++) {
          for (let y = 0; y < height; y++, at += width) {
            const from = (indices[n] * channels + c) * plane + (rows[n] + y) * side + cols[n];
            result.set(pixels.subarray(from, from + width), at);
          }
        }
      }
      return result;
    },
  };
}
