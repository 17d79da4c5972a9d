/**
 * One process per run folder. A `lock` file, created exclusively, names the owner; a lock whose process has
 * ended is stale and is taken over. Limit: a lock held on another host can only be judged by its age.
 */

import { randomBytes } from 'node:crypto';
import { constants, copyFile, link, open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { temporaryPath } from '@patch-diffusion/torch/atomic-file';
import { z } from 'zod';
import { UserError } from '../common/errors.js';

/** A lock is renewed at this interval. */
export const HEARTBEAT_SEC = 15;
/** Not renewed for so long, a lock of another host counts as abandoned. */
const STALE_AFTER_SEC = 600;
/** The same for a lock that is only held while a stale one is removed, which takes milliseconds. */
const TURN_STALE_AFTER_SEC = 60;

/** What a lock file says of its owner. */
const ownerSchema = z.object({
  pid: z.int().positive(),
  host: z.string(),
  /** Tells a process from a later one with the same pid; null where the system does not say. */
  processStart: z.string().nullable(),
  /** When it took the lock, ISO 8601; absent in locks of version 0.1.0. */
  since: z.string().optional(),
  token: z.string(),
});
type Owner = z.infer<typeof ownerSchema>;

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
      since: new Date().toISOString(),
      token,
    };
    // Written aside and linked into place: the lock is never seen half-written. That of a process which was killed in
    // between is removed with its other leftovers.
    const draft = temporaryPath(file);
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
          await removeAbandonedTurn(file);
          return new RunLock(file, token);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
        }
        await clearStale(runDir, file, draft);
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

/** Null for a file that is missing or damaged. */
async function readOwner(file: string): Promise<Owner | null> {
  try {
    return ownerSchema.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch {
    return null;
  }
}

/**
 * Removes a lock whose owner is gone. Removers take turns, each with a lock of its own: otherwise one could remove the
 * new lock that another has put in the place of the stale one that it has looked at.
 *
 * @param draft this process's lock, not yet in place
 * @throws {UserError} when the owner lives, or another process that removes the lock may do so
 */
async function clearStale(runDir: string, file: string, draft: string): Promise<void> {
  const turn = turnOf(file);
  try {
    await createExclusively(draft, turn);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const other = await holderOf(turn, TURN_STALE_AFTER_SEC);
    if (other === 'none') return;
    if (other === 'gone') await rm(turn, { force: true });
    // A turn lasts milliseconds.
    else if (other.ageSec > 1)
      throw new UserError(
        'RUN_IN_USE',
        `run folder ${runDir} is being taken over ${describeHolder(turn, other)}`,
      );
    await setTimeout(10);
    return;
  }
  try {
    const holder = await holderOf(file, STALE_AFTER_SEC);
    if (typeof holder === 'object')
      throw new UserError(
        'RUN_IN_USE',
        `run folder ${runDir} is already in use ${describeHolder(file, holder)}`,
      );
    await rm(file, { force: true });
  } finally {
    await rm(turn, { force: true });
  }
}

/** The lock that is held while a stale one is removed. */
const turnOf = (file: string): string => `${file}.clearing`;

/** That of a process which was killed in its turn. Called by the holder of the lock, which nobody removes meanwhile. */
async function removeAbandonedTurn(file: string): Promise<void> {
  if ((await holderOf(turnOf(file), TURN_STALE_AFTER_SEC)) === 'gone')
    await rm(turnOf(file), { force: true });
}

/** A process that holds a lock file, or may do so. */
interface Holder {
  readonly owner: Owner;
  /** Since the last sign of life. */
  readonly ageSec: number;
  /** Without a sign of life until then, the lock counts as abandoned. */
  readonly staleAfterSec: number;
}

/** Who holds a lock file: `none` when there is no such file, `gone` when its owner has ended. */
async function holderOf(file: string, staleAfterSec: number): Promise<Holder | 'none' | 'gone'> {
  const info = await stat(file).catch(() => null);
  if (info === null) return 'none';
  const owner = await readOwner(file);
  if (owner === null) return 'gone';
  const ageSec = Math.max(0, (Date.now() - info.mtimeMs) / 1000);
  const isHeld = owner.host === hostname() ? await isAlive(owner) : ageSec < staleAfterSec;
  return isHeld ? { owner, ageSec, staleAfterSec } : 'gone';
}

/** The process of this machine that trains in a run folder, or null. */
export async function holderPid(runDir: string): Promise<number | null> {
  const holder = await holderOf(join(runDir, 'lock'), STALE_AFTER_SEC);
  return typeof holder === 'object' && holder.owner.host === hostname() ? holder.owner.pid : null;
}

/** "by process 7 on elsewhere since …; what to do". */
function describeHolder(file: string, { owner, ageSec, staleAfterSec }: Holder): string {
  const { pid, host, since } = owner;
  const begin = since === undefined ? '' : ` since ${since}`;
  if (host === hostname()) return `by process ${pid}${begin}; wait for it or stop it first`;
  const [age, left] = [ageSec, staleAfterSec - ageSec].map((sec) => `${Math.ceil(sec)} s`);
  return (
    `by process ${pid} on ${host}${begin} (last sign of life ${age} ago, one is due every ${HEARTBEAT_SEC} s); ` +
    `stop it there first, or, if it is gone, remove ${file} or try again in ${left}`
  );
}
