/** `kill -9` at random moments after the first state, and signals that ask a run to stop. */
import { setTimeout as sleep } from 'node:timers/promises';
import { lastLine, start } from './program.js';
import type { Scenario } from './scenario.js';

export const randomKills: Scenario = {
  name: 'kill -9 at a random moment',
  prepare: ({ training, quick, kills, random }) =>
    Array.from({ length: quick ? Math.ceil(kills / 20) : kills }, () => {
      const share = random();
      const attempt = async () => {
        const out = training.copyOfBegun();
        const { child, end } = start(['train', '--resume', out]);
        await Promise.race([sleep(share * training.resumeMs), end]);
        child.kill('SIGKILL');
        await end;
        return training.recovered(out);
      };
      return { name: `after ${share.toFixed(3)} of the time`, attempt };
    }),
};

export const signals: Scenario = {
  name: 'SIGINT, SIGTERM, SIGHUP',
  prepare: ({ training, quick, random }) =>
    (['SIGINT', 'SIGTERM', 'SIGHUP'] as const).flatMap((signal) =>
      Array.from({ length: quick ? 1 : 5 }, () => {
        const share = 0.3 + 0.7 * random();
        const attempt = async () => {
          const out = training.copyOfBegun();
          const { child, end } = start(['train', '--resume', out]);
          await Promise.race([sleep(share * training.resumeMs), end]);
          child.kill(signal);
          const outcome = await end;
          // Before the program listens, the signal itself ends it.
          const isClean = outcome.code === 130 || outcome.code === 0 || outcome.signal === signal;
          return isClean ? training.recovered(out, true) : `ended with ${lastLine(outcome)}`;
        };
        return { name: `${signal} after ${share.toFixed(3)} of the time`, attempt };
      }),
    ),
};
