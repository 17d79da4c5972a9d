/** A network and a handful of images that train in seconds, for end-to-end tests. */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { renderDemoSet } from '../../src/prepare/demo-images.js';

export { runCli } from './cli.js';

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
