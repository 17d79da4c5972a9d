/**
 * Starting, stopping and resuming trainings: `train` as a process of its own, which goes on when the studio ends. What
 * it says is in a log of its own (`studio-….log`) in the folder of the runs.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import type { Field } from '../config/fields.js';
import { presetNames } from '../config/presets.js';
import { kebab } from '../config/read-values.js';
import { resolveTrainOptions } from '../config/resolve.js';
import { trainFields } from '../config/train-options.js';
import { holderPid } from '../run/run-lock.js';
import type { FormField, TrainingStart } from './api.js';

const BIN = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));
/** Exit status of a training that was stopped and has saved. */
const INTERRUPTED = 130;
/** Options that a page may not set: the studio decides where runs are, and which run is resumed. */
const NOT_SET = new Set(['out', 'nosubdir', 'resume', 'allowDataChange']);
/** Starts that are kept. */
const KEPT = 5;
/** At the end of a log, where the error is. */
const MAX_MESSAGE = 2000;

/** The options of a training, for a form. */
export function trainForm(): FormField[] {
  return Object.entries(trainFields as Readonly<Record<string, Field>>).flatMap(([key, field]) => {
    const { heading, description, allowed, kind, nullWord, default: standard } = field;
    const choices = key === 'preset' ? presetNames : (field.choices ?? []).map(String);
    const isClosed = kind === 'choice' || kind === 'boolean' || key === 'preset';
    const words = kind === 'boolean' ? [...choices, 'true', 'false'] : choices;
    return NOT_SET.has(key)
      ? []
      : [
          {
            ...{ key, name: kebab(key), heading, description, allowed },
            choices: isClosed ? words : null,
            placeholder:
              typeof standard === 'object' ? (nullWord ?? '') : String(standard ?? 'as the preset'),
          },
        ];
  });
}

export class Trainings {
  readonly #folder: string;
  #starts: TrainingStart[] = [];
  #nextId = 1;
  readonly #listeners = new Set<(all: readonly TrainingStart[]) => void>();

  /** @param folder of the runs */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Trainings that were started from here, newest first. */
  get all(): readonly TrainingStart[] {
    return this.#starts;
  }

  /** Calls `listener` whenever something has changed. @returns what ends that */
  listen(listener: (all: readonly TrainingStart[]) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * Starts a new run.
   * @param options as on the command line; empty ones are left out
   * @throws {UserError} for options that are wrong, or that a page may not set, and where one run is shown
   */
  async start(options: Readonly<Record<string, string>>): Promise<void> {
    if (existsSync(join(this.#folder, 'run.json')))
      throw new UserError(
        'ONE_RUN',
        `${this.#folder} is one run; to start others, start the studio for the folder that holds your runs`,
      );
    const given = Object.entries(options).filter(([, value]) => value.trim() !== '');
    const wrong = given.find(([key]) => NOT_SET.has(key) || !Object.hasOwn(trainFields, key));
    if (wrong) throw new UserError('BAD_OPTION', `${wrong[0]} cannot be set here`);
    // Mistakes are said at once, before a process is started.
    resolveTrainOptions({ flags: Object.fromEntries(given) });
    const flags = given.map(([key, value]) => `--${kebab(key)}=${value}`);
    await this.#spawn(`a run on ${options.data}`, [`--out=${this.#folder}`, ...flags]);
  }

  /** Continues a run from its newest state. */
  async resume(id: string, dir: string): Promise<void> {
    await this.#spawn(id, [`--resume=${dir}`]);
  }

  /** Asks a training to save and stop, as Ctrl-C does. @throws {UserError} where no process of this machine trains */
  async stop(id: string, dir: string): Promise<void> {
    const pid = await holderPid(dir);
    if (pid === null) throw new UserError('NOT_RUNNING', `no process of this machine trains ${id}`);
    process.kill(pid, 'SIGTERM');
  }

  async #spawn(what: string, flags: readonly string[]): Promise<void> {
    const id = this.#nextId++;
    const now = new Date().toISOString().slice(0, 19).replaceAll(':', '');
    const file = join(this.#folder, `studio-${now}-${id}.log`);
    const log = await guarded(`write ${file}`, async () => openSync(file, 'ax'));
    // It outlives the studio.
    const child = spawn(process.execPath, [BIN, 'train', ...flags], {
      detached: true,
      stdio: ['ignore', log, log],
    });
    closeSync(log);
    child.unref();
    const start: TrainingStart = { id, what, state: 'running', problem: null };
    this.#starts = [start, ...this.#starts].slice(0, KEPT);
    this.#tell();
    child.on('error', ({ message }) => this.#end(id, message));
    child.on('close', async (code) => {
      if (code === 0 || code === INTERRUPTED) this.#end(id, null);
      else this.#end(id, (await errorIn(file)) ?? `train ended with exit status ${code}; see ${file}`);
    });
  }

  #end(id: number, problem: string | null): void {
    const state = problem === null ? 'ended' : 'failed';
    this.#starts = this.#starts.map((start) => (start.id === id ? { ...start, state, problem } : start));
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.#starts);
  }
}

/** The message of a command that failed, from its log. */
async function errorIn(log: string): Promise<string | null> {
  const text = await readFile(log, 'utf8').catch(() => '');
  return /^error: (.*)$/m.exec(text.slice(-MAX_MESSAGE))?.[1] ?? null;
}
