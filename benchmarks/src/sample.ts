/**
 * `npm run bench -- sample`: what one evaluation of the network costs while sampling, beside the same network in PyTorch.
 * Ours is the whole of `sampleImages`, solver and its float64 state included, divided by the number of evaluations; the
 * peer runs its denoiser alone.
 */
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import type { PresetName, TrainOptions } from 'patch-diffusion';
import {
  createDenoiser,
  type Denoiser,
  precondSpec,
  prepareDenoiser,
  sampleImages,
} from 'patch-diffusion/method';
import { type BenchOptions, presetOptions } from './command-line.js';
import { digits, duration, table, times } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';
import { OFFICIAL_SETTINGS, Peer, type PeerSettings, settingsText } from './peer.js';
import { describeNetwork, withTemporaryFolder } from './peer-files.js';
import { log } from './progress.js';
import { pythonWithTorch } from './python.js';
import { spreadWeights } from './spread-weights.js';
import { clockOf, median, now, type Spread, type StepSeconds, spread } from './timing.js';

/** The official settings, and the eager ones that may be quicker. Adam has no part in sampling. */
const PEERS: readonly PeerSettings[] = [
  OFFICIAL_SETTINGS,
  { ...OFFICIAL_SETTINGS, channels_last: true },
  { ...OFFICIAL_SETTINGS, bf16: true },
  { ...OFFICIAL_SETTINGS, channels_last: true, bf16: true },
];

/** Evaluations of one timed repeat; DPM-Solver++ asks once a step. */
const EVALUATIONS = 4;
/** Largest relative difference of the estimates D(x; σ) that rounding explains. */
const TOLERANCE = { float32: 1e-4, bfloat16: 2e-2, float16: 2e-2 } as const;
/** Noise level of the comparison: the network's part in D is as large as the input's. */
const SIGMA = 0.5;

const CLOCK_UNITS = { cpu: 's of processor time', wall: 's' } as const;

interface Side {
  readonly name: string;
  /** Seconds of one evaluation. */
  readonly evaluate: () => Promise<StepSeconds>;
  readonly seconds: StepSeconds[];
}

interface SampleComparison {
  readonly preset: PresetName;
  readonly batch: number;
  /** What ratios and figures are of. */
  readonly clock: keyof StepSeconds;
  readonly sides: readonly Pick<Side, 'name' | 'seconds'>[];
}

export async function measureSamples(options: BenchOptions): Promise<Measurement> {
  const python = options.peer ? pythonWithTorch() : null;
  const comparisons: SampleComparison[] = [];
  for (const preset of options.presets) comparisons.push(await compareSamples(preset, options, python));
  return {
    figures: comparisons.flatMap(figuresOf),
    markdown: comparisons.map(report).join('\n\n'),
    details: {
      presets: Object.fromEntries(comparisons.map((one) => [one.preset, { ratios: ratiosOf(one), ...one }])),
    },
  };
}

/** @param python whose torch is the peer; null leaves PyTorch out */
export async function compareSamples(
  preset: PresetName,
  options: BenchOptions,
  python: string | null,
): Promise<SampleComparison> {
  const { batch, device, precision, repeats } = options;
  const chosen = makeSamplingDenoiser(preset, device, precision);
  const float32 = makeSamplingDenoiser(preset, device, 'fp32');
  const ours = chosen.computeDtype === 'float32' ? [float32] : [chosen, float32];
  const peers: Peer[] = [];
  return withTemporaryFolder(async (folder) => {
    try {
      const file = join(folder, 'estimates.safetensors');
      const expected = await writeEstimates(file, float32, batch, device);
      if (chosen !== float32) {
        const relative = relativeDifference(chosen, expected);
        check(`ours ${chosen.computeDtype}`, relative, TOLERANCE[chosen.computeDtype]);
      }
      const network = python === null ? null : await describeNetwork(float32, device, folder);
      for (const settings of network ? PEERS : []) {
        const peer = await Peer.start(python!, network!, settings, float32.numParams());
        peers.push(peer);
        check(
          settingsText(settings),
          await peer.difference(file),
          TOLERANCE[settings.bf16 ? 'bfloat16' : 'float32'],
        );
      }
      for (const tensor of Object.values(expected)) tensor.dispose();
      const sides = [
        ...ours.map((denoiser) => ourSide(denoiser, batch, device)),
        ...peers.map((peer) => ({
          ...{ name: settingsText(peer.settings), seconds: [] as StepSeconds[] },
          evaluate: async () => peer.evaluate(file, EVALUATIONS),
        })),
      ];
      for (let round = 0; round <= repeats; round++) {
        log(`${preset}: ${round === 0 ? 'warming up' : `round ${round} of ${repeats}`} …`);
        for (const { evaluate, seconds } of sides) {
          const measured = await evaluate();
          if (round > 0) seconds.push(measured);
        }
      }
      return {
        preset,
        batch,
        clock: clockOf(device),
        sides: sides.map(({ name, seconds }) => ({ name, seconds })),
      };
    } finally {
      for (const peer of peers) peer.close();
      chosen.dispose();
      float32.dispose();
    }
  });
}

/** The same weights each time, on inputs of a preset's size. */
export function makeSamplingDenoiser(
  preset: PresetName,
  device: string,
  precision: TrainOptions['precision'],
): Denoiser {
  const train = presetOptions(preset);
  const side = train.resolution as number;
  torch.manualSeed(0);
  const spec = precondSpec(train, {
    ...{ height: side, width: side, channels: 3, labelDim: 0, latents: null, std: null },
  });
  const denoiser = prepareDenoiser(createDenoiser(spec), device, precision).eval();
  spreadWeights(denoiser);
  return denoiser.requiresGrad(false);
}

function ourSide(denoiser: Denoiser, batch: number, device: string): Side {
  const names = { float32: 'fp32', bfloat16: 'bf16', float16: 'fp16' };
  const seeds = Array.from({ length: batch }, (_, seed) => seed);
  const evaluate = async (): Promise<StepSeconds> => {
    const cpuBefore = process.cpuUsage();
    const start = now(device);
    const images = await sampleImages(denoiser, {
      ...{ seeds, device, sampler: 'dpmpp-2m', numSteps: EVALUATIONS },
    });
    const wall = now(device) - start;
    const cpu = process.cpuUsage(cpuBefore);
    images.dispose();
    return { wall: wall / EVALUATIONS, cpu: (cpu.user + cpu.system) / 1e6 / EVALUATIONS };
  };
  return { name: `ours ${names[denoiser.computeDtype]}`, evaluate, seconds: [] };
}

/** Inputs of an evaluation, and our float32 estimate for them. */
interface Estimates extends Record<string, torch.Tensor> {
  readonly x: torch.Tensor; // [N, C, H, W]
  readonly coords: torch.Tensor; // [N, 2, H, W]
  readonly sigma: torch.Tensor; // [1, 1, 1, 1]
  readonly denoised: torch.Tensor; // [N, C, H, W]
}

async function writeEstimates(
  file: string,
  denoiser: Denoiser,
  batch: number,
  device: string,
): Promise<Estimates> {
  const { height, width } = denoiser.imageExtent;
  const estimates = torch.scope((): Estimates => {
    const x = torch.randn([batch, 3, height, width], { device });
    const coords = torch.rand([batch, 2, height, width], { device }).mul(2).sub(1);
    const sigma = torch.full([1, 1, 1, 1], SIGMA, { device });
    const denoised = torch.noGrad(() => denoiser.forward(x, sigma, { positions: coords }));
    return { x, coords, sigma, denoised };
  });
  await torch.writeSafetensors(file, Object.entries(estimates));
  return estimates;
}

function relativeDifference(denoiser: Denoiser, { x, coords, sigma, denoised }: Estimates): number {
  return torch.noGrad(() =>
    torch.scope(() => {
      const found = denoiser.forward(x, sigma, { positions: coords });
      return found.sub(denoised).norm().item() / denoised.norm().item();
    }),
  );
}

/** @throws Error if the estimates are not the same but for rounding */
function check(who: string, relative: number, tolerance: number): void {
  if (relative < tolerance) return; // not so for NaN
  throw new Error(
    `${who}: the estimates D(x; σ) differ from those of our float32 network by ${relative.toExponential(1)} (relative); at most ${tolerance} is rounding`,
  );
}

/** The first of ours over the official settings, and over the quickest peer; null without a peer. */
function ratiosOf({
  sides,
  clock,
}: Pick<SampleComparison, 'sides' | 'clock'>): Record<string, Spread> | null {
  const [official, ...others] = sides.filter(({ name }) => name.startsWith('PyTorch'));
  if (!official) return null;
  const cost = (side: Pick<Side, 'seconds'>): number[] => side.seconds.map((seconds) => seconds[clock]);
  const best = others.reduce(
    (quickest, side) => (median(cost(side)) < median(cost(quickest)) ? side : quickest),
    official,
  );
  const over = (peer: Pick<Side, 'seconds'>, ours: Pick<Side, 'seconds'>): Spread =>
    spread(cost(peer).map((seconds, i) => seconds / cost(ours)[i]));
  const float32 = sides.find(({ name }) => name === 'ours fp32')!;
  return {
    officialSettings: over(official, sides[0]),
    bestPyTorch: over(best, sides[0]),
    fp32: over(official, float32),
  };
}

function figuresOf({ preset, batch, clock, sides }: SampleComparison): Figure[] {
  return sides
    .filter(({ name }) => name.startsWith('ours'))
    .map(({ name, seconds }) => ({
      ...{ name: `${preset}, ${batch} images, one evaluation, ${name}`, better: 'lower' },
      ...{ unit: CLOCK_UNITS[clock], values: seconds.map((one) => one[clock]) },
    }));
}

function report(comparison: SampleComparison): string {
  const { preset, batch, clock, sides } = comparison;
  const rows = sides.map(({ name, seconds }) => [
    name,
    duration(median(seconds.map(({ cpu }) => cpu))),
    duration(median(seconds.map(({ wall }) => wall))),
  ]);
  const ratios = ratiosOf(comparison);
  const names = {
    officialSettings: `${sides[0].name} over PyTorch as the official code runs (eager fp32 contiguous)`,
    bestPyTorch: `${sides[0].name} over PyTorch's best eager settings`,
    fp32: 'ours fp32 over PyTorch as the official code runs',
  };
  const ratioRows = Object.entries(names).flatMap(([key, name]) => {
    if (!ratios) return [];
    const { median: middle, q1, q3 } = ratios[key];
    return [[name, `**${times(middle)}**`, `${digits(q1)} … ${digits(q3)}`]];
  });
  return [
    `### Sampling: \`${preset}\`, batch ${batch}, one evaluation of the network`,
    '',
    table(['', 'processor time', 'wall time'], rows),
    ...(ratioRows.length
      ? [
          '',
          table(
            ['above 1: ours is quicker', clock === 'cpu' ? 'processor time' : 'wall time', 'middle half'],
            ratioRows,
          ),
        ]
      : []),
  ].join('\n');
}
