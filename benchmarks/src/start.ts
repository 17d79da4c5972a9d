/** `npm run bench -- start`: how long one waits for the help page, and for a training to begin. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { BenchOptions } from './command-line.js';
import { duration, table } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';
import { log } from './progress.js';
import { PILLOW_PEER, pythonWithPillow } from './python.js';
import { cpuOf, PROGRAM, run, timedNode, wallOf } from './timed-program.js';
import type { StepSeconds } from './timing.js';

/** Trains with the preset `tiny` and ends at the first event of a kind. */
const TRAIN = `
const { train } = await import(process.argv[1]);
const [data, out, until] = process.argv.slice(2);
const onEvent = ({ type }) => type === until && process.exit();
await train({ data, out, preset: 'tiny' }, { onEvent });`;

/** What is waited for. */
interface Wait {
  readonly name: string;
  readonly seconds: StepSeconds[];
}

export async function measureStart({ repeats, quick, peer }: BenchOptions): Promise<Measurement> {
  const python = peer ? pythonWithPillow() : null;
  const folder = await mkdtemp(join(tmpdir(), 'bench-start-'));
  try {
    const counts = quick ? { faces: 200, photos: 300 } : { faces: 5000, photos: 6000 };
    log('making images …');
    const prepared = join(folder, 'faces.zip');
    await run(process.execPath, [PROGRAM, 'avatars', '--out', prepared, '--count', String(counts.faces)]);
    if (python) await run(python, ['-I', PILLOW_PEER, 'make', folder, '0', String(counts.photos), '0']);
    const help: Wait = { name: '`--help`', seconds: [] };
    const update: Wait = {
      name: `a prepared set of ${counts.faces} images, until the first update is done`,
      seconds: [],
    };
    const [first, second] = ['first', 'second'].map((which): Wait => {
      const name = `a folder of ${counts.photos} JPEGs of 256 px, ${which} time, until training begins`;
      return { name, seconds: [] };
    });
    for (let i = 0; i < repeats; i++) {
      log(`${i + 1} of ${repeats} …`);
      const cache = join(folder, `cache-${i}`);
      await mkdir(cache);
      const env = { ...process.env, PATCH_DIFFUSION_CACHE: cache };
      const training = (data: string, until: 'start' | 'step'): Promise<StepSeconds> => {
        const code = ['--input-type=module', '-e', TRAIN, import.meta.resolve('patch-diffusion')];
        return timedNode([...code, data, join(folder, 'runs'), until], env);
      };
      help.seconds.push(await timedNode([PROGRAM, '--help']));
      update.seconds.push(await training(prepared, 'step'));
      for (const { seconds } of python ? [first, second] : [])
        seconds.push(await training(join(folder, 'photos'), 'start'));
    }
    const waits = [help, update, ...(python ? [first, second] : [])];
    return { figures: waits.map(figureOf), markdown: report(waits), details: { waits } };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const figureOf = ({ name, seconds }: Wait): Figure => ({
  ...{ name, unit: 's of processor time', better: 'lower' },
  values: seconds.map(({ cpu }) => cpu),
});

function report(waits: readonly Wait[]): string {
  const rows = waits.map(({ name, seconds }) => [
    ...[name, duration(wallOf(seconds)), duration(cpuOf(seconds))],
  ]);
  return [
    '### Start: from the start of the process',
    '',
    table(['', 'wall time', 'processor time'], rows),
  ].join('\n');
}
