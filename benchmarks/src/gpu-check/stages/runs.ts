/** Whole trainings on the device: snapshots, samples, a resumed state, and images from the result. */
import { join } from 'node:path';
import { generate, train } from 'patch-diffusion';
import { withTemporaryFolder } from '../../peer-files.js';
import { IMAGE_SET, PACKED } from '../golden-folders.js';
import type { StageContext } from './context.js';

/** Seconds of training on a GPU; nothing is learnt in it. */
const OPTIONS = {
  preset: 'tiny',
  ...{ batch: 8, samples: 4, sampleSteps: 3, tickKimg: 0.2, snapshotTicks: 1, sampleTicks: 1, seed: 7 },
} as const;

export async function runs({ device, emit }: StageContext): Promise<void> {
  const precisions = device === 'cpu' ? (['auto'] as const) : (['auto', 'tf32', 'fp16'] as const);
  for (const precision of precisions) {
    const name = `train, resume and generate with precision ${precision}`;
    try {
      await withTemporaryFolder(async (out) => {
        const data = join(PACKED.golden, IMAGE_SET);
        const first = await train({ data, out, device, precision, ...OPTIONS, durationKimg: 0.2 });
        const { runDir } = await train({ resume: first.runDir, device, durationKimg: 0.4 });
        const { files } = await generate({
          run: runDir,
          device,
          count: 4,
          steps: 3,
          out: join(out, 'images'),
        });
        emit({ name, status: 'ok', detail: `two parts of a run, ${files.length} images` });
      });
    } catch (error) {
      emit({ name, status: 'failed', detail: (error as Error).message });
    }
  }
}
