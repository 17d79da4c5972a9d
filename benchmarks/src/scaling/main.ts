/**
 * `npm run bench -- scaling`: what N ranks bring. Costs of steps and of sums over ranks are measured, a simulation says
 * what follows for 1 to 1,024 ranks, and trainings in two and four processes check it.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { avatars } from 'patch-diffusion';
import { meanMultiplier } from 'patch-diffusion/method';
import { type BenchOptions, presetOptions } from '../command-line.js';
import { digits, duration, percent, table, times } from '../markdown.js';
import type { Measurement } from '../measurement.js';
import { log } from '../progress.js';
import { measureAllReduce } from './all-reduce.js';
import { scalingSvg } from './chart.js';
import { type RealRun, realUpdateSeconds } from './real-runs.js';
import { meanUpdateSeconds, type Network, POLICIES, type Policy, type StepCosts } from './simulate.js';
import { measureStepCosts } from './step-costs.js';

const RANKS = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
/** The size of group for which the policies are compared. */
const COMPARED_RANKS = 8;
/** Whole images per rank and update in the simulation. */
const IMAGES_PER_RANK = 32;

/** Of the trainings that check the simulation: in float32, whose speed depends least on the number of patches. */
const CHECK = {
  preset: 'tiny',
  batch: 32,
  sidePx: 32,
  flags: '--preset tiny --precision fp32 --optimizer adam --lr-cooldown 0',
} as const;

/** A training, and what the simulation says of it. */
interface Check extends RealRun {
  readonly measured: number;
  /** Null where it is not simulated. */
  readonly predicted: number | null;
}

export async function measureScaling(options: BenchOptions): Promise<Measurement> {
  torch.setNumThreads(1);
  const { quick, network, chart } = options;
  const checks = await checkAll(options);
  const [preset] = options.presets;
  log(`${preset}: steps …`);
  const batches = quick ? ([1, 2] as const) : ([1, 3] as const);
  const train = presetOptions(preset);
  const costs = await measureStepCosts(train, batches, { ...options, precision: train.precision });
  const curves = simulateAll(costs, network);
  if (chart !== null) {
    const title = `${preset}, ${digits(network.bytesPerSec / 1e9)} GB/s, ${digits(network.latency * 1e6)} µs`;
    await torch.writeFileAtomic(chart, await scalingSvg(curves, title));
  }
  const rate = ({ measured, batch }: Check) => batch / measured;
  return {
    figures: checks.map((check) => ({
      ...{ name: nameOf(check), unit: 'images/s', better: 'higher' as const, values: [rate(check)] },
    })),
    markdown: [
      ...['Checked with trainings (whole images per second by the clock):', '', checkTable(checks), ''],
      ...[`Simulated, ${preset}, ${IMAGES_PER_RANK} images per rank and update:`, '', curveTable(curves)],
    ].join('\n'),
    details: { checks, preset, costs, network, curves },
  };
}

const nameOf = ({ ranks, threads, policy }: RealRun): string =>
  `${ranks === 1 ? 'one process' : `${ranks} ranks`} × ${threads === 1 ? 'one thread' : `${threads} threads`}, ${policy}`;

/** Trains in one, two and four processes, and simulates the latter two. */
async function checkAll({ quick, repeats, device }: BenchOptions): Promise<Check[]> {
  const folder = await mkdtemp(join(tmpdir(), 'bench-scaling-'));
  try {
    const data = join(folder, 'faces.zip');
    await avatars({ out: data, count: 256, resolution: CHECK.sidePx, style: 'open-peeps' });
    const train = { ...presetOptions(CHECK.preset), dropout: 0 };
    log(`${CHECK.preset}: steps …`);
    const costs = await measureStepCosts(train, [CHECK.batch / 4, CHECK.batch / 2], {
      ...{ device, precision: 'fp32', repeats },
    });
    const setting = {
      ...{ folder, data, flags: [...CHECK.flags.split(' '), '--dropout', '0'] },
      imagesPerUpdate: CHECK.batch * meanMultiplier(costs.sizes),
    };
    const networks = new Map<number, Network>();
    const checks: Check[] = [];
    const updates = quick ? 8 : 65;
    for (const policy of ['shared', 'stratified'] as const) {
      for (const [ranks, threads] of [
        [1, 2],
        [2, 1],
        [4, 1],
      ]) {
        const run: RealRun = { ranks, threads, policy, batch: CHECK.batch, updates };
        log(`training, ${nameOf(run)} …`);
        const measured = await realUpdateSeconds(run, setting);
        if (ranks > 1 && !networks.has(ranks)) networks.set(ranks, await measureAllReduce(ranks));
        const predicted = ranks === 1 ? null : predict(costs, run, networks.get(ranks)!);
        checks.push({ ...run, measured, predicted });
      }
    }
    return checks;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Two ranks have a core each; four share two. */
function predict(costs: StepCosts, { ranks, policy, batch }: RealRun, network: Network): number {
  const setting = { policy, ranks, network, imagesPerRank: batch / ranks, ranksPerCore: ranks / 2 };
  return meanUpdateSeconds(costs, setting, evenly());
}

/** The fractional parts of multiples of the golden ratio: as even as the sizes of the trainings. */
function evenly(): () => number {
  let x = 0;
  return () => {
    x = (x + (Math.sqrt(5) - 1) / 2) % 1;
    return x;
  };
}

interface Curve {
  readonly policy: Policy;
  readonly ranks: number;
  readonly seconds: number;
  readonly efficiency: number;
}

function simulateAll(costs: StepCosts, network: Network): Curve[] {
  const base = { imagesPerRank: IMAGES_PER_RANK, network };
  const alone = meanUpdateSeconds(costs, { ...base, policy: 'shared', ranks: 1 }, evenly());
  return POLICIES.flatMap((policy) =>
    RANKS.map((ranks): Curve => {
      // Ranks that draw for themselves must not draw evenly together.
      const [uniform, updates] =
        policy === 'independent' ? [Math.random, Math.max(500, 20_000 / ranks)] : [evenly(), 1000];
      const seconds = meanUpdateSeconds(costs, { ...base, policy, ranks }, uniform, updates);
      return { policy, ranks, seconds, efficiency: alone / seconds };
    }),
  );
}

function checkTable(checks: readonly Check[]): string {
  const rows = checks.map((check) => [
    nameOf(check),
    digits(check.batch / check.measured),
    check.predicted === null ? '' : digits(check.batch / check.predicted),
    check.predicted === null ? '' : percent(check.measured / check.predicted - 1),
  ]);
  return table(['', 'measured', 'simulated', 'an update takes longer by'], rows);
}

function curveTable(curves: readonly Curve[]): string {
  const at = (policy: Policy, ranks: number) =>
    curves.find((curve) => curve.policy === policy && curve.ranks === ranks)!;
  const rows = RANKS.map((ranks) => [
    String(ranks),
    ...POLICIES.map(
      (policy) => `${duration(at(policy, ranks).seconds)} (${percent(at(policy, ranks).efficiency)})`,
    ),
  ]);
  const ratios = POLICIES.slice(0, 2).map((policy) => {
    const ratio = at(policy, COMPARED_RANKS).seconds / at('independent', COMPARED_RANKS).seconds;
    return `${policy} ${times(ratio)}`;
  });
  return [
    table(['ranks', ...POLICIES.map((policy) => `${policy}: an update (efficiency)`)], rows),
    '',
    `An update of ${COMPARED_RANKS} ranks, independent = 1: ${ratios.join(', ')}.`,
  ].join('\n');
}
