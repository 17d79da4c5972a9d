/** `npm run bench -- data`: preparing images beside a plain loop over Pillow, and starting on a folder of photos. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { BenchOptions } from './command-line.js';
import { digits, duration, table, times } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';
import { log } from './progress.js';
import { pythonWithPillow } from './python.js';
import { median, type StepSeconds } from './timing.js';

const run = promisify(execFile);
const PEER = fileURLToPath(new URL('../peer/pillow.py', import.meta.url));
const PROGRAM = fileURLToPath(new URL('../bin/patch-diffusion.js', import.meta.resolve('patch-diffusion')));

/** Loaded before the program: at its end, says what processor time it took. */
const REPORT = `data:text/javascript,${encodeURIComponent(`
process.on('exit', () => {
  const { user, system } = process.cpuUsage();
  console.log(JSON.stringify({ cpu: (user + system) / 1e6 }));
});`)}`;

/** Ends when training would begin: images are in memory, the network is made, the run folder exists. */
const TRAIN = `
const { train } = await import(process.argv[1]);
const [data, out] = process.argv.slice(2);
const onEvent = ({ type }) => type === 'start' && process.exit();
await train({ data, out, preset: 'tiny' }, { onEvent });`;

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
  const counts = quick ? { small: 300, photos: 300, large: 4 } : { small: 5000, photos: 6000, large: 300 };
  try {
    log('making images …');
    const numbers = [counts.small, counts.photos, counts.large].map(String);
    await run(python, ['-I', PEER, 'make', folder, ...numbers]);
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
    const starts = await measureStarts(folder, repeats);
    return {
      figures: [...comparisons.map(figureOf), ...startFigures(starts, counts.photos)],
      markdown: report(comparisons, starts, counts.photos),
      details: { comparisons, starts, ratios: ratiosOf(comparisons) },
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
    ours.push(await timed(process.execPath, ['--import', REPORT, PROGRAM, ...command]));
    pillow.push(await timed(python, ['-I', PEER, 'prepare', source, theirOut, String(sidePx)]));
  }
  const { stdout } = await run(python, ['-I', PEER, 'compare', ourOut, theirOut]);
  const { largest } = JSON.parse(stdout) as { largest: number };
  return { ...job, ours, pillow, largest };
}

/** Seconds until a training begins on a folder of JPEGs, with and without an earlier one. */
interface Starts {
  readonly first: StepSeconds[];
  readonly second: StepSeconds[];
}

async function measureStarts(folder: string, repeats: number): Promise<Starts> {
  const starts: Starts = { first: [], second: [] };
  for (let i = 0; i < repeats; i++) {
    log(`start on a folder: ${i + 1} of ${repeats} …`);
    const cache = join(folder, `cache-${i}`);
    await mkdir(cache);
    const env = { ...process.env, PATCH_DIFFUSION_CACHE: cache };
    for (const times of [starts.first, starts.second]) {
      const code = ['--input-type=module', '-e', TRAIN, import.meta.resolve('patch-diffusion')];
      const rest = [join(folder, 'photos'), join(folder, 'runs')];
      times.push(await timed(process.execPath, ['--import', REPORT, ...code, ...rest], env));
    }
  }
  return starts;
}

/** Runs a program whose last line is its processor time. */
async function timed(program: string, args: string[], env = process.env): Promise<StepSeconds> {
  const begin = performance.now();
  const { stdout } = await run(program, args, { env });
  const wall = (performance.now() - begin) / 1000;
  return { wall, ...(JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as { cpu: number }) };
}

const wallOf = (times: readonly StepSeconds[]): number => median(times.map(({ wall }) => wall));
const cpuOf = (times: readonly StepSeconds[]): number => median(times.map(({ cpu }) => cpu));

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

function startFigures({ first, second }: Starts, photos: number): Figure[] {
  const name = (which: string) => `${which} start on ${photos} JPEGs, until training begins`;
  return [
    { name: name('first'), unit: 's', better: 'lower', values: first.map(({ wall }) => wall) },
    { name: name('second'), unit: 's', better: 'lower', values: second.map(({ wall }) => wall) },
  ];
}

function report(comparisons: readonly Comparison[], { first, second }: Starts, photos: number): string {
  const rows = comparisons.map(({ name, ours, pillow, largest }) => [
    ...[name, duration(wallOf(ours)), duration(wallOf(pillow)), times(wallOf(pillow) / wallOf(ours))],
    ...[`${digits(cpuOf(ours))} / ${digits(cpuOf(pillow))} s`, String(largest)],
  ]);
  const head = ['`prepare`', 'ours', 'Pillow', 'Pillow / ours', 'processor time', 'largest difference'];
  return [
    `Preparing on ${availableParallelism()} cores beside a loop over Pillow in one process`,
    '',
    table(head, rows),
    '',
    `A training on ${photos} JPEGs of 256 px (\`tiny\`) begins after ${duration(wallOf(first))}, ` +
      `the second time after ${duration(wallOf(second))}`,
  ].join('\n');
}
