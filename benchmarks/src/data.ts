/** `npm run bench -- data`: preparing images beside a plain loop over Pillow. */
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions } from './command-line.js';
import { digits, duration, table, times } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';
import { log } from './progress.js';
import { PILLOW_PEER, pythonWithPillow } from './python.js';
import { cpuOf, PROGRAM, run, timed, timedNode, wallOf } from './timed-program.js';
import type { StepSeconds } from './timing.js';

/** A source that both sides prepare. */
interface Job {
  readonly key: 'smallPngs' | 'photos12Mp';
  readonly name: string;
  readonly source: string;
  readonly sidePx: number;
}

interface Comparison extends Job {
  readonly ours: StepSeconds[];
  readonly pillow: StepSeconds[];
  /** Largest difference of pixels. */
  readonly largest: number;
}

export async function measureData({ repeats, quick }: BenchOptions): Promise<Measurement> {
  const python = pythonWithPillow();
  const folder = await mkdtemp(join(tmpdir(), 'bench-data-'));
  const counts = quick ? { small: 300, large: 4 } : { small: 5000, large: 300 };
  try {
    log('making images …');
    const numbers = [counts.small, 0, counts.large].map(String);
    await run(python, ['-I', PILLOW_PEER, 'make', folder, ...numbers]);
    const jobs: Job[] = [
      {
        ...{ key: 'smallPngs', name: `${counts.small} PNGs of 64 px → 32 px` },
        ...{ source: join(folder, 'small.zip'), sidePx: 32 },
      },
      {
        ...{ key: 'photos12Mp', name: `${counts.large} JPEGs of 12 megapixels → 64 px` },
        ...{ source: join(folder, 'large'), sidePx: 64 },
      },
    ];
    const comparisons: Comparison[] = [];
    for (const job of jobs) comparisons.push(await compareJob(job, folder, python, repeats));
    return {
      figures: comparisons.map(figureOf),
      markdown: report(comparisons),
      details: { comparisons, ratios: ratiosOf(comparisons) },
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Both sides in turns. */
async function compareJob(job: Job, folder: string, python: string, repeats: number): Promise<Comparison> {
  const { source, sidePx } = job;
  const [ours, pillow]: [StepSeconds[], StepSeconds[]] = [[], []];
  const [ourOut, theirOut] = [join(folder, 'ours.zip'), join(folder, 'pillow.zip')];
  for (let i = 0; i < repeats; i++) {
    log(`${job.name}: ${i + 1} of ${repeats} …`);
    await rm(ourOut, { force: true });
    const command = ['prepare', source, '--out', ourOut, '--resolution', String(sidePx), '--channels', '3'];
    ours.push(await timedNode([PROGRAM, ...command]));
    pillow.push(await timed(python, ['-I', PILLOW_PEER, 'prepare', source, theirOut, String(sidePx)]));
  }
  const { stdout } = await run(python, ['-I', PILLOW_PEER, 'compare', ourOut, theirOut]);
  const { largest } = JSON.parse(stdout) as { largest: number };
  return { ...job, ours, pillow, largest };
}

/** Pillow's time by ours. */
function ratiosOf(comparisons: readonly Comparison[]): Record<string, { wall: number; cpu: number }> {
  return Object.fromEntries(
    comparisons.map(({ key, ours, pillow }) => [
      key,
      { wall: wallOf(pillow) / wallOf(ours), cpu: cpuOf(pillow) / cpuOf(ours) },
    ]),
  );
}

const figureOf = ({ name, ours }: Comparison): Figure => ({
  ...{ name: `prepare ${name}`, unit: 's', better: 'lower' },
  values: ours.map(({ wall }) => wall),
});

function report(comparisons: readonly Comparison[]): string {
  const rows = comparisons.map(({ name, ours, pillow, largest }) => [
    ...[name, duration(wallOf(ours)), duration(wallOf(pillow)), times(wallOf(pillow) / wallOf(ours))],
    ...[`${digits(cpuOf(ours))} / ${digits(cpuOf(pillow))} s`, String(largest)],
  ]);
  const head = ['`prepare`', 'ours', 'Pillow', 'Pillow / ours', 'processor time', 'largest difference'];
  return [
    `Preparing on ${availableParallelism()} cores beside a loop over Pillow in one process`,
    '',
    table(head, rows),
  ].join('\n');
}
