/**
 * Trains on a folder of images and draws some, through the library. Ctrl-C stops early with everything saved.
 *
 *   node examples/train-and-sample.mjs ./photos [minutes] [folder for the results]
 *
 * In a clone, run `npm run setup` once before.
 */
import { join } from 'node:path';
import { generate, train, UserError } from 'patch-diffusion';

const [data, minutes = '10', out = 'runs'] = process.argv.slice(2);
const stop = new AbortController();
process.once('SIGINT', () => stop.abort());

try {
  const { runDir } = await train(
    { data, out, preset: 'tiny', maxSec: Number(minutes) * 60 },
    {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.type === 'tick')
          console.log(`${event.kimg.toFixed(1)} kimg, loss ${event.loss.toFixed(4)}`);
      },
    },
  );
  const { sheet } = await generate({ run: runDir, count: 16, grid: join(out, 'sheet.png') });
  console.log(sheet);
} catch (error) {
  // What a person can fix: no images, a wrong option, a full disk.
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
