/** Runs of several processes, of a second or so. */
import { SafetensorsFile } from '@patch-diffusion/torch';
import { newestState } from '../../src/run/runs.js';
import type { Outcome, Running } from './cli.js';

/** Flags of `train`, on a file `icons.zip` of 16×16 px. */
export const RANK_FLAGS =
  '--data icons.zip --max-images 64 --preset tiny --model-channels 8 --channel-mult 1,1 --num-blocks 1 ' +
  '--attn-resolutions none --batch 8 --sample-ticks none --seed 7 --nosubdir --dropout 0 --precision fp32 ' +
  '--schedule stratified --optimizer adam --lr-cooldown 0 ' +
  // A large epsilon: Adam would turn the rounding of gradients near zero into whole steps.
  '--adam-eps 0.001 --lr 0.001 --lr-rampup-kimg 0 --threads 1 --tick-kimg 0.04 --state-ticks 1';

export const ends = (running: readonly Running[]): Promise<Outcome[]> =>
  Promise.all(running.map(({ end }) => end));

/** The largest difference between the weights of two runs' newest states. */
export async function weightDifference(...runs: [string, string]): Promise<number> {
  const files = await Promise.all(
    runs.map(async (run) => SafetensorsFile.openSync((await newestState(run))!)),
  );
  let largest = 0;
  for (const name of files[0].names.filter((name) => /^(net|ema|power)\./.test(name))) {
    const [x, y] = files.map((file) => file.tensor(name).toTypedArray());
    for (let i = 0; i < x.length; i++) largest = Math.max(largest, Math.abs(Number(x[i]) - Number(y[i])));
  }
  for (const file of files) await file.close();
  return largest;
}
