/**
 * Snapshots as ONNX models, which pages draw with: `export` as a child process, once for each snapshot. The files are kept in
 * the user's cache.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import { LAUNCHED } from '../common/launched.js';
import { cacheFolder } from '../formats/hub/cache.js';
import type { PageModel } from './api.js';

const BIN = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));
/** Models that stay in the cache. */
const KEPT = 8;
/** An end of an error message that is kept. */
const MAX_MESSAGE = 2000;
const MODEL = 'model.onnx';
const DECODER = 'model-decoder.onnx';

export class PageModels {
  readonly #running = new Map<string, Promise<PageModel>>();
  readonly #children = new Set<ChildProcess>();
  readonly #folder: string;

  /** @param folder where models are kept */
  constructor(folder = join(cacheFolder(), 'studio-onnx')) {
    this.#folder = folder;
  }

  /**
   * The model of a snapshot; exports it where that has not been done.
   * @param snapshot path of the snapshot
   * @throws {UserError} where it cannot be exported, and while another one is exported
   */
  async of(snapshot: string): Promise<PageModel> {
    const { size, mtimeMs } = await stat(snapshot);
    const text = JSON.stringify([snapshot, size, mtimeMs]);
    const key = createHash('sha256').update(text).digest('hex').slice(0, 32);
    const known = await this.#known(key);
    if (known !== null) return known;
    const running = this.#running.get(key);
    if (running) return running;
    if (this.#running.size > 0)
      throw new UserError('BUSY', 'another snapshot is being exported; try again when it is done');
    const exported = this.#export(snapshot, key).finally(() => this.#running.delete(key));
    this.#running.set(key, exported);
    return exported;
  }

  /** A file of a model; null where there is none. */
  async fileOf(key: string, name: string): Promise<string | null> {
    if (!/^[0-9a-f]{32}$/.test(key) || (name !== MODEL && name !== DECODER)) return null;
    const file = join(this.#folder, key, name);
    return (await stat(file).catch(() => null)) === null ? null : file;
  }

  async #known(key: string): Promise<PageModel | null> {
    const names = await readdir(join(this.#folder, key)).catch((): string[] => []);
    if (!names.includes(MODEL)) return null;
    const path = (name: string) => `/api/models/${key}/${name}`;
    return { model: path(MODEL), decoder: names.includes(DECODER) ? path(DECODER) : null };
  }

  async #export(snapshot: string, key: string): Promise<PageModel> {
    const unfinished = join(this.#folder, `${key}.${process.pid}.tmp`);
    await guarded(`write to ${this.#folder}`, async () => makeFolder(unfinished));
    try {
      await this.#run([
        'export',
        `--network=${snapshot}`,
        '--format=onnx',
        `--out=${join(unfinished, MODEL)}`,
      ]);
      await rm(join(this.#folder, key), { recursive: true, force: true });
      await rename(unfinished, join(this.#folder, key));
    } finally {
      await rm(unfinished, { recursive: true, force: true });
    }
    await this.#forgetOld(key);
    return (await this.#known(key)) as PageModel;
  }

  #run(args: readonly string[]): Promise<void> {
    const child = spawn(process.execPath, [BIN, ...args], {
      env: { ...process.env, [LAUNCHED]: '1' },
      // Ctrl-C is for the server, which ends this process.
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    this.#children.add(child);
    let errors = '';
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-MAX_MESSAGE);
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code) => {
        this.#children.delete(child);
        const problem = /^error: (.*)$/m.exec(errors)?.[1] ?? `export ended with exit status ${code}`;
        if (code === 0) resolve();
        else reject(new UserError('NOT_EXPORTED', `the snapshot cannot be drawn in the page: ${problem}`));
      });
    });
  }

  /** Removes the oldest models, but never the newest. */
  async #forgetOld(newest: string): Promise<void> {
    const names = (await readdir(this.#folder)).filter(
      (name) => /^[0-9a-f]{32}$/.test(name) && name !== newest,
    );
    const ages = await Promise.all(
      names.map(async (name) => ({
        name,
        at: (await stat(join(this.#folder, name)).catch(() => null))?.mtimeMs ?? 0,
      })),
    );
    const old = ages.sort((a, b) => b.at - a.at).slice(KEPT - 1);
    for (const { name } of old) await rm(join(this.#folder, name), { recursive: true, force: true });
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    for (const child of this.#children) child.kill('SIGKILL');
    await Promise.allSettled(this.#running.values());
  }
}
