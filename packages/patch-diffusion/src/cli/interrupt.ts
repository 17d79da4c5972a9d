/**
 * Ctrl-C and SIGTERM: the first asks the work to stop and save, the second says that it is saving, the third
 * quits at once. SIGTERM counts like Ctrl-C, since schedulers and containers send it before they kill.
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

/**
 * Runs `work` with a signal that Ctrl-C and SIGTERM raise.
 *
 * @param saving what the second Ctrl-C is told, for example "saving the training state"
 */
export async function interruptible<T>(
  saving: string,
  say: (text: string) => void,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = new AbortController();
  let count = 0;
  const onSignal = (): void => {
    count++;
    if (count === 1) {
      say(`stopping: ${saving} (press Ctrl-C twice more to quit at once)`);
      controller.abort();
    } else if (count === 2) say(`still ${saving}; once more quits at once and loses it`);
    else {
      note('');
      process.exit(INTERRUPTED);
    }
  };
  process.on('SIGINT', onSignal);
  process.on('SIGTERM', onSignal);
  try {
    return await work(controller.signal);
  } finally {
    process.off('SIGINT', onSignal);
    process.off('SIGTERM', onSignal);
  }
}
