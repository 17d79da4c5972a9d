/**
 * Ctrl-C and its like: the first asks the work to stop and save, the second says that it is saving, the third quits
 * at once. SIGTERM counts like Ctrl-C, since schedulers and containers send it before they kill, and so does SIGHUP,
 * which comes when a terminal is closed.
 */

import { note } from './terminal.js';

/** Exit code of a command that was interrupted: 128 + SIGINT, as shells expect. */
export const INTERRUPTED = 130;

/** Thrown by a command to end with an exit code after it has said all there is to say. */
export class Exit extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/**
 * Runs `work` with a signal that Ctrl-C, SIGTERM and SIGHUP raise.
 *
 * @param saving what is done before it stops, for example "saving the training state"; null where there is nothing
 */
export async function interruptible<T>(
  saving: () => string | null,
  say: (text: string) => void,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let count = 0;
  const onSignal = (): void => {
    count++;
    const what = saving();
    if (count === 1) {
      say(`stopping${what === null ? '' : `: ${what}`} (press Ctrl-C twice more to quit at once)`);
      controller.abort();
    } else if (count === 2) {
      say(
        what === null
          ? 'still stopping; once more quits at once'
          : `still ${what}; once more quits at once and loses it`,
      );
    } else {
      note('');
      process.exit(INTERRUPTED);
    }
  };
  for (const name of SIGNALS) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of SIGNALS) process.off(name, onSignal);
  }
}
