/** A network and a handful of images that train in seconds, for end-to-end tests. */

import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll } from 'vitest';
import { renderDemoSet } from '../../src/data/demo-images.js';

const bin = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));

/** Flags of a run whose update takes a few hundredths of a second. */
export const tinyFlags = [
  ...['--preset', 'tiny', '--resolution', '16', '--model-channels', '8', '--channel-mult', '1,2'],
  ...[
    '--attn-resolutions',
    '8',
    '--batch',
    '8',
    '--samples',
    '4',
    '--sample-steps',
    '3',
    '--seed',
    '7',
    '--threads',
    '1',
  ],
];

/** A temporary folder that goes with the test file. */
export async function temporaryFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'patch-diffusion-'));
  afterAll(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

/** A prepared set of 1,244 icons of 16×16 pixels in 7 classes. */
export async function iconSet(dir: string): Promise<string> {
  const zip = join(dir, 'icons.zip');
  await renderDemoSet(zip, { resolution: 16 });
  return zip;
}

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs the built command line as a user does.
 * @param onOutput is called with all output so far, and may send a signal
 */
export function runCli(
  args: readonly string[],
  onOutput?: (output: string, kill: (signal: NodeJS.Signals) => void) => void,
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [bin, ...args], { env: { ...process.env, COLUMNS: '100' } });
    let [stdout, stderr] = ['', ''];
    const report = () => onOutput?.(stdout + stderr, (signal) => child.kill(signal));
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString();
      report();
    });
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString();
      report();
    });
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}
