/** Sheets that are drawn on demand: `generate` as a child process, one at a time. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UserError } from '../common/errors.js';
import { LAUNCHED } from '../common/launched.js';
import { kebab } from '../config/read-values.js';
import type { Drawing, DrawRequest } from './api.js';

const BIN = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));
/** Options that a page may set: none of them names a file. */
const DRAW_OPTIONS = ['seeds', 'class', 'steps', 'sampler', 'sChurn', 'cfg', 'imageSize', 'ema'] as const;
/** Sheets that are kept. */
const KEPT = 12;
/** Images on a sheet. */
const MAX_SEEDS = 256;
/** An end of an error message that is kept. */
const MAX_MESSAGE = 2000;

interface Job {
  drawing: Drawing;
  readonly child: ChildProcess;
}

export class Drawings {
  readonly #jobs = new Map<number, Job>();
  readonly #listeners = new Set<(all: readonly Drawing[]) => void>();
  #folder: string | null = null;
  #nextId = 1;

  /** Newest first. */
  get all(): Drawing[] {
    return [...this.#jobs.values()].map(({ drawing }) => drawing).reverse();
  }

  /** Calls `listener` whenever something has changed. @returns what ends that */
  listen(listener: (all: readonly Drawing[]) => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  /**
   * Starts to draw a sheet.
   * @param snapshot path of the snapshot
   * @throws {UserError} for options that a page may not set, and while another sheet is drawn
   */
  start(request: DrawRequest, snapshot: string): Drawing {
    const flags = flagsOf(request.options);
    if (this.all.some(({ state }) => state === 'running'))
      throw new UserError('BUSY', 'a sheet is being drawn; wait for it, or cancel it');
    const id = this.#nextId++;
    const drawing: Drawing = { ...request, id, state: 'running', share: 0, problem: null };
    this.#folder ??= mkdtempSync(join(tmpdir(), 'patch-diffusion-studio-'));
    const job = {
      drawing,
      child: startGenerate([networkFlag(request, snapshot), ...flags], this.#folder, id),
    };
    this.#jobs.set(id, job);
    this.#follow(job);
    this.#forgetOld();
    this.#tell();
    return drawing;
  }

  #follow(job: Job): void {
    const { child } = job;
    let errors = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-MAX_MESSAGE);
    });
    child.on(
      'message',
      (event: { type?: string; done: number; total: number; step: number; numSteps: number }) => {
        if (event.type !== 'progress') return;
        const batch = (event.step / event.numSteps) * Math.min(64, event.total - event.done);
        this.#update(job, { share: (event.done + batch) / event.total });
      },
    );
    child.on('error', (error) => this.#update(job, { state: 'failed', problem: error.message }));
    child.on('close', (code) => {
      if (job.drawing.state !== 'running') return;
      const problem = /^error: (.*)$/m.exec(errors)?.[1] ?? `generate ended with exit status ${code}`;
      this.#update(job, code === 0 ? { state: 'done', share: 1 } : { state: 'failed', problem });
    });
  }

  #update(job: Job, change: Partial<Drawing>): void {
    job.drawing = { ...job.drawing, ...change };
    this.#tell();
  }

  #tell(): void {
    for (const listener of this.#listeners) listener(this.all);
  }

  /** @returns whether there is such a drawing, and it was under way */
  cancel(id: number): boolean {
    const job = this.#jobs.get(id);
    if (job?.drawing.state !== 'running') return false;
    job.child.kill('SIGTERM');
    this.#update(job, { state: 'cancelled' });
    return true;
  }

  /** The finished sheet, or null. */
  sheetOf(id: number): string | null {
    const isDone = this.#jobs.get(id)?.drawing.state === 'done';
    return isDone && this.#folder !== null ? sheetIn(this.#folder, id) : null;
  }

  #forgetOld(): void {
    const old = [...this.#jobs.keys()].slice(0, -KEPT);
    for (const id of old) {
      this.#jobs.delete(id);
      if (this.#folder) void rm(sheetIn(this.#folder, id), { force: true }).catch(() => {});
    }
  }

  /** Ends what is under way and removes all sheets. */
  async close(): Promise<void> {
    const running = [...this.#jobs.values()].filter(({ drawing }) => drawing.state === 'running');
    for (const { child } of running) child.kill('SIGKILL');
    if (this.#folder) await rm(this.#folder, { recursive: true, force: true });
  }
}

const sheetIn = (folder: string, id: number): string => join(folder, `sheet-${id}.png`);

/** An average is made of what the run stores; it ends at its newest snapshot. */
function networkFlag({ options }: DrawRequest, snapshot: string): string {
  return options.ema ? `--run=${dirname(dirname(snapshot))}` : `--network=${snapshot}`;
}

/** Options as flags; a value is never taken for a flag. @throws {UserError} for names that are not in {@link DRAW_OPTIONS} */
function flagsOf(options: DrawRequest['options']): string[] {
  const allowed: readonly string[] = DRAW_OPTIONS;
  return Object.entries(options).flatMap(([key, value]) => {
    if (!allowed.includes(key)) throw new UserError('BAD_OPTION', `${key} cannot be set here`);
    if (key === 'seeds') checkSeeds(value);
    return value.trim() === '' ? [] : [`--${kebab(key)}=${value}`];
  });
}

/** A sheet with a million images would fill the disk. What is no list is refused by `generate`. */
function checkSeeds(text: string): void {
  const numbers = text.split(',').map((part) => {
    const [first, last = first] = part.split('-').map(Number);
    return last - first + 1;
  });
  const count = numbers.reduce((sum, n) => sum + n, 0);
  if (count > MAX_SEEDS)
    throw new UserError('BAD_OPTION', `seeds ${text}: a sheet holds at most ${MAX_SEEDS} images`);
}

function startGenerate(flags: readonly string[], folder: string, id: number): ChildProcess {
  return spawn(process.execPath, [BIN, 'generate', ...flags, `--grid=${sheetIn(folder, id)}`], {
    env: { ...process.env, [LAUNCHED]: '1' },
    // Ctrl-C is for the server, which ends this process.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
}
