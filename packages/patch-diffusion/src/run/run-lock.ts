/**
 * One process per run folder. A `lock` file, created exclusively, names the owner; a lock whose process has
 * ended is stale and is taken over. Limit: a lock held on another host can only be judged by its age.
 */

import { randomBytes } from 'node:crypto';
import { constants, copyFile, link, open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { UserError } from '../common/errors.js';

/** Older than this without a heartbeat, a lock of another host counts as abandoned. */
const STALE_AFTER_SEC = 600;

interface Owner {
  readonly pid: number;
  readonly host: string;
  /** Tells a process from a later one with the same pid; null where the system does not say. */
  readonly processStart: string | null;
  readonly token: string;
}

/** Start time of a process in kernel ticks since boot (Linux), else null. */
async function processStart(pid: number): Promise<string | null> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    // Fields follow the command name, which is in parentheses and may contain anything; 22 is starttime.
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}

async function isAlive(owner: Owner): Promise<boolean> {
  try {
    process.kill(owner.pid, 0);
  } catch (error) {
    // EPERM: it lives, under another user.
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  return owner.processStart === null || owner.processStart === (await processStart(owner.pid));
}

export class RunLock {
  readonly #file: string;
  readonly #token: string;

  private constructor(file: string, token: string) {
    this.#file = file;
    this.#token = token;
  }

  /** @throws {UserError} `RUN_IN_USE` when a living process holds the folder */
  static async acquire(runDir: string): Promise<RunLock> {
    const file = join(runDir, 'lock');
    const token = randomBytes(12).toString('hex');
    const owner: Owner = {
      pid: process.pid,
      host: hostname(),
      processStart: await processStart(process.pid),
      token,
    };
    // Written aside and linked into place: the lock is never seen half-written.
    const draft = `${file}.${token}`;
    const handle = await open(draft, 'wx');
    try {
      await handle.writeFile(JSON.stringify(owner));
    } finally {
      await handle.close();
    }
    try {
      for (let attempt = 0; attempt < 100; attempt++) {
        try {
          await createExclusively(draft, file);
          return new RunLock(file, token);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        await clearStale(runDir, file);
      }
      throw new UserError('RUN_IN_USE', `run folder ${runDir} is being taken by another process; try again`);
    } finally {
      await rm(draft, { force: true });
    }
  }

  /** Shows that the owner lives, to processes on other hosts. */
  async touch(): Promise<void> {
    const now = new Date();
    await utimes(this.#file, now, now).catch(() => {});
  }

  async release(): Promise<void> {
    const owner = await readOwner(this.#file);
    if (owner?.token === this.#token) await rm(this.#file, { force: true });
  }
}

/** Gives the draft its name unless the name is taken. Some file systems (FAT, some network shares) have no links. */
async function createExclusively(draft: string, file: string): Promise<void> {
  try {
    await link(draft, file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw error;
    await copyFile(draft, file, constants.COPYFILE_EXCL);
  }
}

async function readOwner(file: string): Promise<Owner | null> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Owner;
  } catch {
    return null;
  }
}

/**
 * Removes a lock whose owner is gone. Removers take turns: otherwise one could remove the new lock that another
 * has put in the place of the stale one that it has looked at.
 *
 * @throws {UserError} when the owner lives
 */
async function clearStale(runDir: string, file: string): Promise<void> {
  const turn = `${file}.clearing`;
  try {
    await (await open(turn, 'wx')).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    await dropAbandonedTurn(turn);
    await setTimeout(10);
    return;
  }
  try {
    const owner = await readOwner(file);
    if (owner !== null && (await inUse(owner, file))) {
      const where = owner.host === hostname() ? '' : ` on ${owner.host}`;
      throw new UserError(
        'RUN_IN_USE',
        `run folder ${runDir} is already in use by process ${owner.pid}${where}; wait for it or stop it first`,
      );
    }
    await rm(file, { force: true });
  } finally {
    await rm(turn, { force: true });
  }
}

/** A turn lasts milliseconds; one that is minutes old was left by a crash. */
async function dropAbandonedTurn(turn: string): Promise<void> {
  const info = await stat(turn).catch(() => null);
  if (info !== null && Date.now() - info.mtimeMs > 60_000) await rm(turn, { force: true });
}

async function inUse(owner: Owner, file: string): Promise<boolean> {
  if (owner.host === hostname()) return isAlive(owner);
  const info = await stat(file).catch(() => null);
  return info !== null && Date.now() - info.mtimeMs < STALE_AFTER_SEC * 1000;
}
