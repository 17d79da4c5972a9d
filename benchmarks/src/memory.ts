/**
 * `npm run bench -- memory`: peak resident memory of training, ours and PyTorch's, at the same preset, batch, threads and
 * precision. Each side is a process of its own, runtime and libraries included.
 */
import { fileURLToPath } from 'node:url';
import type { PresetName } from 'patch-diffusion';
import { type BenchOptions, presetOptions } from './command-line.js';
import { digits, table } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';
import { OFFICIAL_SETTINGS, Peer, type PeerSettings, settingsText } from './peer.js';
import { describeNetwork, withTemporaryFolder, writePatches } from './peer-files.js';
import { log } from './progress.js';
import { pythonWithTorch } from './python.js';
import { patchFile } from './sides.js';
import { run } from './timed-program.js';
import { median } from './timing.js';
import { TrainingStep } from './training-step.js';

const CHILD = fileURLToPath(new URL('memory-child.js', import.meta.url));
/** Steps at each patch size; what is kept from one step to the next is there from the second on. */
const ROUNDS = 3;
const MIB = 2 ** 20;

/** PyTorch in either precision, with the memory order and the optimiser that need less there. */
const PEERS: readonly PeerSettings[] = [
  OFFICIAL_SETTINGS,
  { ...OFFICIAL_SETTINGS, channels_last: true, fused: true },
  { ...OFFICIAL_SETTINGS, bf16: true, fused: true },
  { ...OFFICIAL_SETTINGS, channels_last: true, bf16: true, fused: true },
];

interface Side {
  readonly name: string;
  readonly role: 'ours' | 'peer';
  readonly dtype: string;
  /** One for each repeat. */
  readonly peaks: readonly number[];
}

interface MemoryComparison {
  readonly preset: PresetName;
  readonly batch: number;
  readonly sides: readonly Side[];
}

export async function measureMemory(options: BenchOptions): Promise<Measurement> {
  const python = options.peer ? pythonWithTorch() : null;
  const comparisons: MemoryComparison[] = [];
  for (const preset of options.presets) comparisons.push(await comparePeaks(preset, options, python));
  return {
    figures: comparisons.flatMap(figuresOf),
    markdown: comparisons.map(report).join('\n\n'),
    details: {
      presets: Object.fromEntries(
        comparisons.map((comparison) => [comparison.preset, { ratios: ratiosOf(comparison), ...comparison }]),
      ),
    },
  };
}

async function comparePeaks(
  preset: PresetName,
  options: BenchOptions,
  python: string | null,
): Promise<MemoryComparison> {
  const { batch, precision } = options;
  const precisions = precision === 'fp32' ? [precision] : [precision, 'fp32'];
  const sides: Side[] = [];
  for (const name of precisions) {
    log(`${preset}: ours, ${name} …`);
    const measured = await repeated(options.repeats, () => ourPeak(preset, name, options));
    const { dtype } = measured[0];
    // `auto` may have become float32.
    if (sides.some((side) => side.dtype === dtype)) continue;
    sides.push({
      ...{ name: `ours ${dtype}`, role: 'ours', dtype },
      peaks: measured.map(({ peakBytes }) => peakBytes),
    });
  }
  if (python !== null) sides.push(...(await peerSides(preset, options, python)));
  return { preset, batch, sides };
}

async function repeated<T>(count: number, measure: () => Promise<T>): Promise<T[]> {
  const results: T[] = [];
  for (let i = 0; i < count; i++) results.push(await measure());
  return results;
}

async function ourPeak(
  preset: PresetName,
  precision: string,
  { batch, threads }: BenchOptions,
): Promise<{ dtype: string; peakBytes: number }> {
  const settings = [preset, batch, threads, precision, ROUNDS].map(String);
  const { stdout } = await run(process.execPath, [CHILD, ...settings]);
  return JSON.parse(stdout) as { dtype: string; peakBytes: number };
}

async function peerSides(preset: PresetName, options: BenchOptions, python: string): Promise<Side[]> {
  const { batch, repeats } = options;
  return withTemporaryFolder(async (folder) => {
    const { denoiser, sizes } = new TrainingStep({
      ...{ train: presetOptions(preset), batch, device: 'cpu', precision: 'fp32' },
    });
    const network = await describeNetwork(denoiser, 'cpu', folder);
    for (const patch of sizes) await writePatches(patchFile(folder, patch), patch, batch * patch.multiplier);
    const sides: Side[] = [];
    for (const settings of PEERS) {
      const name = settingsText(settings);
      log(`${preset}: ${name} …`);
      const peaks = await repeated(repeats, async () => {
        const peer = await Peer.start(python, network, settings, denoiser.numParams());
        try {
          for (let round = 0; round < ROUNDS; round++) {
            for (const patch of sizes) await peer.step(patchFile(folder, patch));
          }
          return await peer.peakBytes();
        } finally {
          peer.close();
        }
      });
      sides.push({ name, role: 'peer', dtype: settings.bf16 ? 'bfloat16' : 'float32', peaks });
    }
    return sides;
  });
}

/** Our peak over that of the most frugal PyTorch of the same precision; below 1 is better. */
function ratiosOf({ sides }: MemoryComparison): Record<string, number> {
  return Object.fromEntries(
    sides.flatMap(({ role, dtype, peaks }) => {
      const peers = sides.filter((side) => side.role === 'peer' && side.dtype === dtype);
      if (role !== 'ours' || peers.length === 0) return [];
      return [[dtype, median(peaks) / Math.min(...peers.map((peer) => median(peer.peaks)))]];
    }),
  );
}

function figuresOf({ preset, batch, sides }: MemoryComparison): Figure[] {
  return sides
    .filter(({ role }) => role === 'ours')
    .map(({ name, peaks }) => ({
      ...{ name: `${preset}, batch ${batch}, ${name}, peak memory`, unit: 'MiB', better: 'lower' },
      values: peaks.map((bytes) => bytes / MIB),
    }));
}

function report(comparison: MemoryComparison): string {
  const { preset, batch, sides } = comparison;
  const ratios = ratiosOf(comparison);
  const rows = sides.map(({ name, role, dtype, peaks }) => {
    const ratio = role === 'ours' ? ratios[dtype] : undefined;
    return [name, `${digits(median(peaks) / MIB)} MiB`, ratio === undefined ? '' : ratio.toFixed(2)];
  });
  return [
    `### Peak memory of training: \`${preset}\`, batch ${batch}`,
    '',
    table(['', 'peak resident memory', "over PyTorch's least in that precision"], rows),
  ].join('\n');
}
