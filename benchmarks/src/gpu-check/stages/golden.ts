/** The recorded vectors on the device: the repository's own tests, bundled when the archive was packed. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as torch from '@patch-diffusion/torch';
import type { CollectedTest } from '../collected-tests.js';
import { PACKED } from '../golden-folders.js';
import type { StageContext } from './context.js';

export async function golden(folder: string, { device, emit }: StageContext): Promise<void> {
  // The helpers of the tests read these.
  Object.assign(process.env, { GOLDEN_DEVICE: device, GOLDEN_DIR: PACKED.golden });
  torch.setFlag('tf32', false); // in libtorch it is on for convolutions
  const bundle = pathToFileURL(join(PACKED.tests, `${folder}.mjs`)).href;
  const { tests } = (await import(bundle)) as { tests: readonly CollectedTest[] };
  for (const { name, run } of tests) {
    try {
      await run();
      emit({ name, status: 'ok', detail: 'within its tolerance' });
    } catch (error) {
      emit({ name, status: 'failed', detail: error instanceof Error ? error.message : String(error) });
    }
  }
}
