/** Processes of this program that another one has started: they tell it what they do, and end when it does. */

/** Environment variable that says so to the process that is started, with a channel (`ipc`) as its further stdio. */
export const LAUNCHED = 'PATCH_DIFFUSION_LAUNCHED';

/** Whether another process of this program has started this one. */
export const isLaunched = (): boolean => Boolean(process.env[LAUNCHED] && process.channel);

/**
 * Stops as after Ctrl-C when the process that started this one is gone.
 * @returns whether another one has started it
 */
export function followLauncher(): boolean {
  if (!isLaunched()) return false;
  process.channel?.unref();
  process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  return true;
}

/** Sends an event to the process that started this one, where there is one. */
export function tellLauncher(event: object): void {
  // It may be gone: then this process is about to end.
  if (isLaunched()) process.send?.(event, undefined, undefined, () => {});
}
