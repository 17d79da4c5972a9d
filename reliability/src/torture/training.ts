/** The run that is harmed again and again: a second of training, with a state, a snapshot and a sheet per tick. */
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { runDifference } from './contents.js';
import { lastLine, type Outcome, run, type Settings, start } from './program.js';

const NETWORK = '--preset tiny --model-channels 8 --channel-mult 1,1 --num-blocks 1 --attn-resolutions none';
const SHEETS = '--samples 1 --sample-steps 1 --sample-ticks 1';
const TICKS = '--duration-kimg 0.08 --tick-kimg 0.02 --state-ticks 1 --snapshot-ticks 1';
const OPTIONS = `${NETWORK} ${SHEETS} ${TICKS} --batch 4 --threads 1 --seed 1 --device cpu --nosubdir`.split(
  ' ',
);

/** Everything that the scenarios share. */
export class Training {
  #folders = 0;

  private constructor(
    readonly folder: string,
    /** Images of 16×16 pixels, and the same as a prepared set. */
    readonly images: string,
    readonly data: string,
    /** A run that nothing happened to. */
    readonly whole: string,
    /** One that was killed when it had written its first state. */
    readonly begun: string,
    /** Milliseconds that it takes to go on from there, starting the program included. */
    readonly resumeMs: number,
  ) {}

  /** Makes the data and both runs. */
  static async prepare(folder: string): Promise<Training> {
    const images = join(folder, 'images');
    mkdirSync(images);
    for (let i = 0; i < 24; i++) {
      const background = { r: 10 * i, g: 100, b: 255 - 10 * i };
      const image = sharp({ create: { width: 16, height: 16, channels: 3, background } });
      await image.png().toFile(join(images, `${i}.png`));
    }
    const [data, whole, begun] = ['set.zip', 'whole', 'begun'].map((name) => join(folder, name));
    await mustDo(['prepare', images, '--out', data, '--resolution', '16']);
    await mustDo(['train', '--data', data, ...OPTIONS, '--out', whole]);
    const { child, end } = start(['train', '--data', data, ...OPTIONS, '--out', begun]);
    while (!hasState(begun) && child.exitCode === null) await sleep(1);
    child.kill('SIGKILL');
    await end;
    const copy = join(folder, 'first');
    cpSync(begun, copy, { recursive: true });
    const time = performance.now();
    await mustDo(['train', '--resume', copy]);
    return new Training(folder, images, data, whole, begun, performance.now() - time);
  }

  /** A path that is not used yet. */
  newPath(): string {
    return join(this.folder, `try-${this.#folders++}`);
  }

  /** A copy of the run that was killed after its first state. */
  copyOfBegun(to = this.newPath()): string {
    cpSync(this.begun, to, { recursive: true });
    return to;
  }

  /** The command of a new run. */
  begin(out: string): string[] {
    return ['train', '--data', this.data, ...OPTIONS, '--out', out];
  }

  /** What a person would do after a failure: go on, or begin again where nothing was saved. */
  async goOn(out: string, settings?: Settings): Promise<Outcome> {
    return run(hasState(out) ? ['train', '--resume', out] : this.begin(out), settings);
  }

  /**
   * Goes on with a run, unless it is done, and compares it with the one that nothing happened to. It is removed when all
   * is well.
   * @returns what is lost, or null
   */
  async recovered(out: string, onlyEnd = false): Promise<string | null> {
    // A process that is killed in the last moment leaves its lock; the next one finds nothing to do, and removes it.
    if (!isDone(out) || existsSync(join(out, 'lock'))) {
      const outcome = await this.goOn(out);
      const isAsExpected = isDone(out) && /is done/.test(outcome.output);
      if (outcome.code !== 0 && !isAsExpected) return `going on failed: ${lastLine(outcome)}`;
    }
    const lost = runDifference(out, this.whole, onlyEnd);
    if (lost === null) rmSync(out, { recursive: true, force: true });
    return lost;
  }
}

export function hasState(out: string): boolean {
  const folder = join(out, 'state');
  return existsSync(folder) && readdirSync(folder).some((name) => /^training.*\.safetensors$/.test(name));
}

function isDone(out: string): boolean {
  const file = join(out, 'run.json');
  return existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { status: string }).status === 'done';
}

async function mustDo(args: readonly string[]): Promise<void> {
  const outcome = await run(args);
  if (outcome.code !== 0) throw new Error(`${args[0]} fails without any harm: ${outcome.output}`);
}
