/** `train --studio`: the studio as a process of its own, which ends with the one that started it. */
import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { LAUNCHED } from '../common/launched.js';
import { hasScreen, openBrowser } from './open-browser.js';

/**
 * Starts the studio.
 * @param folder of runs, or of one run
 * @param say gets what it says, line by line
 * @returns what ends it
 */
export function startStudioChild(folder: string, say: (line: string) => void): () => void {
  const child = spawn(process.execPath, [...process.execArgv, process.argv[1], 'studio', folder], {
    env: { ...process.env, [LAUNCHED]: '1' },
    // Ctrl-C reaches the training, which ends the studio once it has saved.
    detached: true,
    // The channel closes when this process ends, whatever ends it.
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  // Without a studio the training goes on.
  child.on('error', (error) => say(`studio: ${error.message}`));
  const take = (line: string): void => {
    say(`studio: ${line}`);
    if (/^https?:/.test(line) && hasScreen()) openBrowser(line);
  };
  // None of these keeps the training's process alive.
  for (const stream of [child.stdout, child.stderr].filter((one) => one !== null)) {
    createInterface(stream).on('line', take);
    (stream as Socket).unref();
  }
  child.unref();
  child.channel?.unref();
  return () => child.kill('SIGTERM');
}
