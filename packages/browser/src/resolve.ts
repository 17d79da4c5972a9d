/** What a sampling is in the sampler's terms, and which options a model does not have. */
import {
  chooseSampling,
  type GuidanceRule,
  type OnnxDenoiserInfo,
  SAMPLERS,
  type SamplerOptions,
  takesChurn,
} from 'patch-diffusion/samplers';
import { ModelError } from './errors.js';
import type { Label, SampleSettings } from './options.js';

/** A sampling in numbers that the sampler takes. */
export interface ResolvedSampling {
  readonly seeds: readonly number[];
  readonly batch: number;
  readonly sampler: SamplerOptions;
  readonly labels: readonly Label[] | null;
  readonly guidance: GuidanceRule | null;
  /** In pixels of what the network sees: of latents, where it was trained on them. */
  readonly window: { width: number; height: number; xStart: number; yStart: number };
}

const badOption = (message: string) => new ModelError('BAD_OPTION', message);

/** @throws ModelError naming the option, its value and what is allowed */
export function resolveSampling(settings: SampleSettings, info: OnnxDenoiserInfo): ResolvedSampling {
  const { seeds = [0], batch = 8 } = settings;
  if (!Array.isArray(seeds) || seeds.length === 0) throw badOption('seeds: give at least one');
  for (const seed of seeds) checkInteger('seeds', seed, 0);
  checkInteger('batch', batch, 1);
  return {
    ...{ seeds, batch },
    sampler: resolveSampler(settings, info),
    labels: resolveLabels(settings, info),
    guidance: resolveGuidance(settings, info),
    window: resolveWindow(settings, info),
  };
}

function resolveSampler(settings: SampleSettings, { sampler: recorded }: OnnxDenoiserInfo): SamplerOptions {
  const { sigmaMin, sigmaMax, rho, sMin, sNoise, sMax } = settings;
  if (settings.sampler !== undefined) checkChoice('sampler', settings.sampler, SAMPLERS);
  if (settings.steps !== undefined) checkInteger('steps', settings.steps, 1);
  const { sampler, numSteps, sChurn } = chooseSampling({ ...settings, numSteps: settings.steps }, recorded);
  const options = { sigmaMin, sigmaMax, rho, sMin, sNoise, sMax, sChurn };
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined && !(typeof value === 'number' && value >= 0))
      throw badOption(`${name}: ${value} is not a number ≥ 0`);
  }
  if (options.sChurn > 0 && !takesChurn(sampler))
    throw badOption(`sChurn belongs to the samplers edm and generalised; use dpmpp-2m-sde for fresh noise`);
  const low = sigmaMin ?? recorded.sigmaMin ?? 0;
  const high = sigmaMax ?? recorded.sigmaMax ?? Number.POSITIVE_INFINITY;
  if (!(low > 0 && low < high)) throw badOption(`sigmaMin ${low} must be above 0 and below sigmaMax ${high}`);
  return { sampler, numSteps, ...defined(options), ...ablations(settings) };
}

/** Words that options of the generalised sampler may be. */
const ABLATIONS = {
  discretization: ['vp', 've', 'iddpm', 'edm'],
  schedule: ['vp', 've', 'linear'],
  scaling: ['vp', 'none'],
  solver: ['euler', 'heun'],
} as const;

function ablations(settings: SampleSettings): Pick<SampleSettings, keyof typeof ABLATIONS> {
  const given = (Object.keys(ABLATIONS) as (keyof typeof ABLATIONS)[]).flatMap((name) => {
    const value = settings[name];
    if (value === undefined) return [];
    if (settings.sampler !== 'generalised')
      throw badOption(
        `${name} belongs to the sampler generalised; add sampler: 'generalised', or leave it out`,
      );
    checkChoice(name, value, ABLATIONS[name]);
    return [[name, value]];
  });
  return Object.fromEntries(given);
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value)) throw badOption(`${name}: "${value}" is none of ${choices.join(', ')}`);
}

/** The entries that are given. */
const defined = (options: Record<string, number | undefined>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(options).filter((entry): entry is [string, number] => entry[1] !== undefined),
  );

function resolveLabels(
  { classIndex = null, label = null }: SampleSettings,
  { labelDim, dataset }: OnnxDenoiserInfo,
): readonly Label[] | null {
  const known = dataset.labels ?? null;
  if (classIndex === null && label === null) return known;
  if (classIndex !== null && label !== null) throw badOption('give classIndex or label, not both');
  const option = label === null ? `classIndex ${classIndex}` : `label ${label}`;
  if (!labelDim)
    throw badOption(`${option}: this network was trained without class labels; leave the option out`);
  if (label !== null) {
    if (label.length === labelDim && label.every(Number.isFinite)) return [label];
    throw badOption(`${option}: a label of this network has ${labelDim} numbers`);
  }
  if (typeof known?.[0] === 'object')
    throw badOption(`${option}: this network was trained with label vectors, not with classes; give a label`);
  const classes = (known as readonly number[] | null) ?? Array.from({ length: labelDim }, (_, i) => i);
  if (classIndex !== null && classes.includes(classIndex)) return [classIndex];
  const all = known ? classes.join(', ') : `0 to ${labelDim - 1}`;
  throw badOption(`${option}: this network has the classes ${all}`);
}

function resolveGuidance(
  { guidance = null }: SampleSettings,
  { labelDim }: OnnxDenoiserInfo,
): GuidanceRule | null {
  if (guidance === null) return null;
  const rule = typeof guidance === 'number' ? { scale: guidance } : guidance;
  if (!(rule.scale >= 0 && Number.isFinite(rule.scale)))
    throw badOption(`guidance: ${rule.scale} is not a number ≥ 0`);
  if (labelDim) return rule;
  throw badOption('guidance: this network was trained without class labels; leave the option out');
}

function resolveWindow({ window }: SampleSettings, { image, sizeMultiple, latents }: OnnxDenoiserInfo) {
  if (!window) return { ...image, xStart: 0, yStart: 0 };
  const factor = latents?.downFactor ?? 1;
  const { width, height, xStart = 0, yStart = 0 } = window;
  for (const [name, side] of Object.entries({ width, height })) {
    const multiple = sizeMultiple * factor;
    if (!Number.isInteger(side) || side < 1 || side % multiple)
      throw badOption(`window.${name}: ${side} is not a multiple of ${multiple}, which this network needs`);
  }
  for (const [name, start] of Object.entries({ xStart, yStart })) {
    if (!Number.isInteger(start / factor))
      throw badOption(`window.${name}: ${start} is not a multiple of ${factor}`);
  }
  return {
    ...{ width: width / factor, height: height / factor },
    ...{ xStart: xStart / factor, yStart: yStart / factor },
  };
}

function checkInteger(name: string, value: number, min: number): void {
  if (!Number.isSafeInteger(value) || value < min)
    throw badOption(`${name}: ${value} is not an integer ≥ ${min}`);
}
