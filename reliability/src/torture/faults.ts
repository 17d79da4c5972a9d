/**
 * Loaded into the program under test before anything else (`node --import`): counts what changes files, and at one of
 * these calls ends the process as `kill -9` does, or lets it and all later ones fail; or moves the clock. What to do is
 * in the environment variable FAULT, as JSON.
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

export type Fault =
  /** Writes the name of each call to a file, one a line. */
  | { readonly type: 'count'; readonly log: string }
  /** Ends the process before call number `at` (from 0); of a write, half is done. */
  | { readonly type: 'kill'; readonly at: number }
  /** From call number `at` on, each fails with this code of the system. */
  | { readonly type: 'fail'; readonly at: number; readonly code: string }
  /** After `afterMs`, clocks show `shiftSec` more. */
  | { readonly type: 'clock'; readonly shiftSec: number; readonly afterMs: number };

const fault = JSON.parse(process.env.FAULT ?? 'null') as Fault | null;
if (fault?.type === 'clock') moveClock(fault.shiftSec * 1000, performance.now() + fault.afterMs);
else if (fault !== null) await watchFiles(fault);

type Call = (this: unknown, ...args: unknown[]) => unknown;
type Calls = Record<string, Call>;

async function watchFiles(plan: Exclude<Fault, { type: 'clock' }>): Promise<void> {
  const { writeSync, openSync } = fs;
  const log = plan.type === 'count' ? openSync(plan.log, 'a') : -1;
  let count = 0;

  /** Called before each change. @param half does a part of it */
  const onCall = (name: string, half: () => void): void => {
    const number = count++;
    if (plan.type === 'count') writeSync(log, `${name}\n`);
    else if (number >= plan.at && plan.type === 'fail')
      throw Object.assign(new Error(`${plan.code}: made to fail, ${name}`), {
        code: plan.code,
        syscall: name,
      });
    else if (number === plan.at && plan.type === 'kill') {
      half();
      process.kill(process.pid, 'SIGKILL');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    }
  };
  const wrap = (
    object: object,
    names: readonly string[],
    isChange: (args: unknown[]) => boolean = () => true,
  ) => {
    const calls = object as Calls;
    const isAsync = object !== fs;
    for (const name of names) {
      const original = calls[name];
      calls[name] = function (...args) {
        if (!isChange(args)) return original.apply(this, args);
        try {
          onCall(name, () => writeHalf(this, name, args));
        } catch (error) {
          if (isAsync) return Promise.reject(error);
          throw error;
        }
        return original.apply(this, args);
      };
    }
  };
  const writeHalf = (handle: unknown, name: string, [data, offset, length, position]: unknown[]) => {
    const fd = (handle as { fd?: number } | undefined)?.fd;
    if (fd === undefined || !(name === 'write' || name === 'appendFile')) return;
    if (typeof data === 'string') writeSync(fd, data.slice(0, data.length >> 1));
    else
      writeSync(fd, data as Uint8Array, offset as number, (length as number) >> 1, position as number | null);
  };

  const isWriting = ([, flags]: unknown[]) =>
    typeof flags === 'number'
      ? (flags & (fs.constants.O_WRONLY | fs.constants.O_RDWR)) !== 0
      : !/^r?$/.test(String(flags ?? ''));
  const changes = [
    'rename',
    'rm',
    'mkdir',
    'link',
    'copyFile',
    'truncate',
    'appendFile',
    'writeFile',
    'unlink',
    'utimes',
  ];
  const handle = await fs.promises.open(import.meta.filename);
  wrap(Object.getPrototypeOf(handle) as object, [
    'write',
    'sync',
    'datasync',
    'appendFile',
    'truncate',
    'writeFile',
  ]);
  await handle.close();
  wrap(fs.promises, changes);
  wrap(fs.promises, ['open'], isWriting);
  wrap(fs, [...changes.map((name) => `${name}Sync`), 'writeSync']);
  wrap(fs, ['openSync'], isWriting);
  syncBuiltinESMExports();
}

/** @param from the time of `performance.now()` at which the clock jumps */
function moveClock(shiftMs: number, from: number): void {
  const RealDate = Date;
  const now = () => RealDate.now() + (performance.now() >= from ? shiftMs : 0);
  globalThis.Date = new Proxy(RealDate, {
    get: (target, key) => (key === 'now' ? now : Reflect.get(target, key)),
    construct: (target, args: [], newTarget) =>
      Reflect.construct(target, args.length ? args : [now()], newTarget) as Date,
  });
}
