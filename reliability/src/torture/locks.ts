/** Several processes that want the same run, and locks that nobody holds any more. */
import { existsSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { filesBelow } from './contents.js';
import { lastLine, run } from './program.js';
import { type Scenario, spread, type Try } from './scenario.js';

export const races: Scenario = {
  name: 'two and five processes at once',
  prepare: ({ training, quick }) =>
    (quick ? [2] : [2, 2, 2, 2, 5, 5, 5, 5]).map((count) => ({
      name: `${count} processes`,
      attempt: async () => {
        // It has the lock of a process that was killed.
        const out = training.copyOfBegun();
        const outcomes = await Promise.all(
          Array.from({ length: count }, () => run(['train', '--resume', out])),
        );
        const winners = outcomes.filter(({ code }) => code === 0);
        if (winners.length !== 1)
          return `${winners.length} processes trained: ${outcomes.map(lastLine).join(' | ')}`;
        // One that comes late finds that the run is done.
        const strange = outcomes.find(
          ({ code, output }) => code !== 0 && !/is already in use|is being taken|is done/.test(output),
        );
        return strange ? `ended with ${lastLine(strange)}` : training.recovered(out);
      },
    })),
};

interface Owner {
  pid: number;
  host: string;
  processStart: string | null;
}

export const staleLocks: Scenario = {
  name: 'locks of dead processes and hosts',
  prepare: ({ training, quick }) => {
    const withLock =
      (change: (owner: Owner) => Owner | string, ageSec: number, isHeld: boolean): Try =>
      async () => {
        const out = training.copyOfBegun();
        const file = join(out, 'lock');
        if (!existsSync(file)) return 'a killed process left no lock';
        const changed = change(JSON.parse(readFileSync(file, 'utf8')) as Owner);
        writeFileSync(file, typeof changed === 'string' ? changed : JSON.stringify(changed));
        const time = Date.now() / 1000 - ageSec;
        utimesSync(file, time, time);
        if (isHeld) {
          const before = filesBelow(out).join();
          const outcome = await run(['train', '--resume', out]);
          if (outcome.code !== 1 || !/is already in use by process/.test(outcome.output))
            return `did not respect the lock: ${lastLine(outcome)}`;
          if (filesBelow(out).join() !== before) return 'changed the run of another process';
          rmSync(file);
        }
        return training.recovered(out);
      };
    const elsewhere = (owner: Owner) => ({ ...owner, host: 'elsewhere.example' });
    const tries = [
      { name: 'a dead process', attempt: withLock((owner) => owner, 0, false) },
      {
        name: 'a process whose number another one has now',
        attempt: withLock((owner) => ({ ...owner, pid: process.pid }), 0, false),
      },
      {
        name: 'a living process',
        attempt: withLock((o) => ({ ...o, pid: process.pid, processStart: null }), 0, true),
      },
      { name: 'a host that is gone', attempt: withLock(elsewhere, 700, false) },
      { name: 'a host that lives', attempt: withLock(elsewhere, 5, true) },
      { name: 'a damaged lock', attempt: withLock(() => '{"pid": 1', 0, false) },
      { name: 'an empty lock', attempt: withLock(() => '', 0, false) },
    ];
    return spread(tries, quick ? 3 : tries.length);
  },
};
