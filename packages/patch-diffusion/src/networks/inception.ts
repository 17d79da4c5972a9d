/**
 * The Inception-v3 whose features FID is defined on (Szegedy et al. 2016; Heusel et al. 2017), with the parameter names
 * of pytorch-fid's weights file. It is the TensorFlow graph of 2015-12-05, which differs from torchvision's: average
 * pools do not count their padding, the last block pools by maximum, and there is no auxiliary head. The classifier
 * (`fc`) is left out. Inference only; weights start as zeros and have to be loaded.
 * Shapes in comments: N batch, C channels, H W image.
 */
import * as torch from '@patch-diffusion/torch';
import { Module, type Tensor } from '@patch-diffusion/torch';

/** Side of the network's input in pixels. */
const INPUT_SIDE = 299;

/** Epsilon of the batch norms. */
const BN_EPS = 1e-3;

/**
 * How images become the network's input.
 * - `halfPixel`: resized with half-pixel centres, scaled to [−1, 1] (pytorch-fid)
 * - `tensorflow`: sampled as TensorFlow 1 does, without the half-pixel shift, (x − 128) / 128. The references that EDM
 *   publishes were made this way.
 */
export type InceptionInput = 'halfPixel' | 'tensorflow';

type Kernel = number | readonly [height: number, width: number];

/** A convolution unit of a mixed block; without a stride it keeps the image's size. */
interface UnitSpec {
  readonly name: string;
  readonly channels: number;
  readonly kernel: Kernel;
  readonly stride?: number;
}

/** A step of a branch: a unit, units side by side, or a pool. */
type Step = UnitSpec | readonly UnitSpec[] | Pool;
type Pool = (x: Tensor) => Tensor;
type Branch = readonly Step[];

const unit = (name: string, channels: number, kernel: Kernel, stride?: number): UnitSpec => ({
  name,
  channels,
  kernel,
  stride,
});

const averagePool: Pool = (x) => torch.avgPool2d(x, 3, 1, 1, false, false);
const maxPool: Pool = (x) => torch.maxPool2d(x, 3, 1, 1);
const halve: Pool = (x) => torch.maxPool2d(x, 3, 2);

const blockA = (poolChannels: number): Branch[] => [
  [unit('branch1x1', 64, 1)],
  [unit('branch5x5_1', 48, 1), unit('branch5x5_2', 64, 5)],
  [unit('branch3x3dbl_1', 64, 1), unit('branch3x3dbl_2', 96, 3), unit('branch3x3dbl_3', 96, 3)],
  [averagePool, unit('branch_pool', poolChannels, 1)],
];

const blockB: Branch[] = [
  [unit('branch3x3', 384, 3, 2)],
  [unit('branch3x3dbl_1', 64, 1), unit('branch3x3dbl_2', 96, 3), unit('branch3x3dbl_3', 96, 3, 2)],
  [halve],
];

const blockC = (width: number): Branch[] => [
  [unit('branch1x1', 192, 1)],
  [unit('branch7x7_1', width, 1), unit('branch7x7_2', width, [1, 7]), unit('branch7x7_3', 192, [7, 1])],
  [
    unit('branch7x7dbl_1', width, 1),
    unit('branch7x7dbl_2', width, [7, 1]),
    unit('branch7x7dbl_3', width, [1, 7]),
    unit('branch7x7dbl_4', width, [7, 1]),
    unit('branch7x7dbl_5', 192, [1, 7]),
  ],
  [averagePool, unit('branch_pool', 192, 1)],
];

const blockD: Branch[] = [
  [unit('branch3x3_1', 192, 1), unit('branch3x3_2', 320, 3, 2)],
  [
    unit('branch7x7x3_1', 192, 1),
    unit('branch7x7x3_2', 192, [1, 7]),
    unit('branch7x7x3_3', 192, [7, 1]),
    unit('branch7x7x3_4', 192, 3, 2),
  ],
  [halve],
];

const blockE = (pool: Pool): Branch[] => [
  [unit('branch1x1', 320, 1)],
  [unit('branch3x3_1', 384, 1), [unit('branch3x3_2a', 384, [1, 3]), unit('branch3x3_2b', 384, [3, 1])]],
  [
    unit('branch3x3dbl_1', 448, 1),
    unit('branch3x3dbl_2', 384, 3),
    [unit('branch3x3dbl_3a', 384, [1, 3]), unit('branch3x3dbl_3b', 384, [3, 1])],
  ],
  [pool, unit('branch_pool', 192, 1)],
];

/** The weight of a convolution, named as PyTorch names it. */
class Weight extends Module {
  readonly weight: Tensor;

  constructor(shape: readonly number[]) {
    super();
    this.weight = this.addParameter('weight', torch.zeros(shape));
  }
}

/** Batch norm with stored statistics. */
class BatchNorm extends Module {
  readonly #tensors: Tensor[];

  constructor(channels: number) {
    super();
    this.#tensors = [
      this.addParameter('weight', torch.ones([channels])),
      this.addParameter('bias', torch.zeros([channels])),
      this.addBuffer('running_mean', torch.zeros([channels])),
      this.addBuffer('running_var', torch.ones([channels])),
    ];
  }

  forward(x: Tensor): Tensor {
    const [weight, bias, mean, variance] = this.#tensors;
    return torch.batchNorm(x, weight, bias, mean, variance, false, 0, BN_EPS, true);
  }
}

/** Convolution without bias, batch norm, ReLU. */
class ConvUnit extends Module {
  readonly #conv: Weight;
  readonly #bn: BatchNorm;
  readonly #stride: number;
  readonly #padding: readonly number[];

  /** @param padded keeps the size; without it the border is cut */
  constructor(inChannels: number, { channels, kernel, stride = 1 }: UnitSpec, padded = stride === 1) {
    super();
    const size = typeof kernel === 'number' ? [kernel, kernel] : kernel;
    this.#conv = this.addModule('conv', new Weight([channels, inChannels, ...size]));
    this.#bn = this.addModule('bn', new BatchNorm(channels));
    this.#stride = stride;
    this.#padding = size.map((side) => (padded ? (side - 1) / 2 : 0));
  }

  forward(x: Tensor): Tensor {
    return torch.scope(() =>
      this.#bn.forward(torch.conv2d(x, this.#conv.weight, null, this.#stride, this.#padding)).relu_(),
    );
  }
}

/** Branches side by side, concatenated by channel. */
class MixedBlock extends Module {
  readonly outChannels: number;
  readonly #branches: ((x: Tensor) => Tensor[])[];

  constructor(inChannels: number, branches: readonly Branch[]) {
    super();
    let outChannels = 0;
    this.#branches = branches.map((branch) => {
      let channels = inChannels;
      const steps = branch.map((step): ((x: Tensor) => Tensor[]) => {
        if (typeof step === 'function') return (x) => [step(x)];
        const specs = 'name' in step ? [step] : step;
        const units = specs.map((spec) => this.addModule(spec.name, new ConvUnit(channels, spec)));
        channels = specs.reduce((sum, spec) => sum + spec.channels, 0);
        return (x) => units.map((conv) => conv.forward(x));
      });
      outChannels += channels;
      // Only the last step of a branch has several outputs.
      return (x) => steps.reduce((outputs, step) => step(outputs[0]), [x]);
    });
    this.outChannels = outChannels;
  }

  forward(x: Tensor): Tensor {
    return torch.scope(() =>
      torch.cat(
        this.#branches.flatMap((branch) => branch(x)),
        1,
      ),
    );
  }
}

/** Image features for FID. */
export class Inception extends Module {
  /** Layers up to the first max pool, to the second, to Mixed_6e, and to the last feature map. */
  readonly #stages: ((x: Tensor) => Tensor)[][];

  constructor() {
    super();
    const stem = (
      name: string,
      inChannels: number,
      channels: number,
      kernel: number,
      stride = 1,
      pad = false,
    ) => {
      const layer = this.addModule(name, new ConvUnit(inChannels, unit(name, channels, kernel, stride), pad));
      return (x: Tensor) => layer.forward(x);
    };
    let channels = 192;
    const mixed = (name: string, branches: readonly Branch[]) => {
      const block = this.addModule(name, new MixedBlock(channels, branches));
      channels = block.outChannels;
      return (x: Tensor) => block.forward(x);
    };
    this.#stages = [
      [
        stem('Conv2d_1a_3x3', 3, 32, 3, 2),
        stem('Conv2d_2a_3x3', 32, 32, 3),
        stem('Conv2d_2b_3x3', 32, 64, 3, 1, true),
        halve, // [N, 64, 73, 73]
      ],
      [
        stem('Conv2d_3b_1x1', 64, 80, 1),
        stem('Conv2d_4a_3x3', 80, 192, 3),
        halve, // [N, 192, 35, 35]
      ],
      [
        mixed('Mixed_5b', blockA(32)),
        mixed('Mixed_5c', blockA(64)),
        mixed('Mixed_5d', blockA(64)),
        mixed('Mixed_6a', blockB),
        mixed('Mixed_6b', blockC(128)),
        mixed('Mixed_6c', blockC(160)),
        mixed('Mixed_6d', blockC(160)),
        mixed('Mixed_6e', blockC(192)), // [N, 768, 17, 17]
      ],
      [
        mixed('Mixed_7a', blockD),
        mixed('Mixed_7b', blockE(averagePool)),
        mixed('Mixed_7c', blockE(maxPool)), // [N, 2048, 8, 8]
      ],
    ];
    this.eval().requiresGrad(false);
  }

  /**
   * Copies weights from a state dict of pytorch-fid; its classifier (`fc.*`) and batch counters are ignored.
   * @throws StateDictError where names or shapes do not fit
   */
  loadWeights(dict: ReadonlyMap<string, Tensor>): void {
    const used = [...dict].filter(
      ([name]) => !name.startsWith('fc.') && !name.endsWith('.num_batches_tracked'),
    );
    this.loadStateDict(new Map(used));
  }

  /**
   * Feature maps after the first max pool, the second, Mixed_6e, and the last block.
   * @param x prepared images, [N, 3, 299, 299]
   * @returns [N, 64, 73, 73], [N, 192, 35, 35], [N, 768, 17, 17], [N, 2048, 8, 8]
   */
  featureMaps(x: Tensor): Tensor[] {
    return torch.noGrad(() =>
      torch.scope(() => {
        const maps: Tensor[] = [];
        for (const stage of this.#stages) maps.push(run(stage, maps.at(-1) ?? x));
        return maps;
      }),
    );
  }

  /**
   * Feature vectors of images.
   * @param images uint8 [N, 1 | 3, H, W]; grey ones count as RGB with equal channels
   * @returns float32 [N, 2048]
   */
  features(images: Tensor, input: InceptionInput = 'tensorflow'): Tensor {
    return torch.noGrad(() =>
      torch.scope(() => run(this.#stages.flat(), inceptionInput(images, input)).mean([2, 3])),
    );
  }
}

/** Runs layers one after the other, and frees each intermediate result as soon as the next one is there. */
function run(layers: readonly ((x: Tensor) => Tensor)[], input: Tensor): Tensor {
  let x = input;
  for (const layer of layers) {
    const next = layer(x);
    if (x !== input) x.dispose();
    x = next;
  }
  return x;
}

/**
 * Resizes and scales images for the network.
 * @param images uint8 [N, 1 | 3, H, W]
 * @returns float32 [N, 3, 299, 299]
 */
export function inceptionInput(images: Tensor, input: InceptionInput): Tensor {
  return torch.scope(() => {
    const [N, , H, W] = images.shape;
    const x = images.to({ dtype: 'float32' }).expand([N, 3, H, W]);
    if (input === 'halfPixel') {
      return torch.upsampleBilinear2d(x.div(255), [INPUT_SIDE, INPUT_SIDE], false).mul(2).sub(1);
    }
    // Output pixel o reads o · W / 299, clamped at the border: half-pixel sampling shifted by 1/W − 1/299.
    const [dx, dy] = [1 / W - 1 / INPUT_SIDE, 1 / H - 1 / INPUT_SIDE];
    const theta = torch.tensor(Float32Array.of(1, 0, dx, 0, 1, dy), {
      shape: [1, 2, 3],
      device: images.device,
    });
    const grid = torch.affineGridGenerator(theta.expand([N, 2, 3]), [N, 3, INPUT_SIDE, INPUT_SIDE], false);
    const [bilinear, border] = [0, 1];
    return torch.gridSampler(x, grid, bilinear, border, false).sub(128).div(128);
  });
}
