/** The published recipe in eager PyTorch (peer/train.py): Python trains, and its averaged weights are evaluated here. */
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import {
  type DataSet,
  holdOut,
  openImages,
  resolveTrainOptions,
  type TrainOptions,
  type TrainOptionsInput,
} from 'patch-diffusion';
import { createDenoiser, type Denoiser, heldOutLoss, precondSpec } from 'patch-diffusion/method';
import { describeNetwork, withTemporaryFolder } from '../peer-files.js';
import { pythonWithTorch } from '../python.js';
import { PythonProcess } from '../python-process.js';
import type { Point } from './results.js';

/** What is trained, and for how long. */
export interface PeerRun {
  readonly options: TrainOptionsInput;
  /** Processor seconds. */
  readonly budgetSec: number;
  readonly evaluations: number;
}

/** @returns the evaluations; fewer when the signal ends the run */
export async function trainPeer(run: PeerRun, signal: AbortSignal): Promise<Point[]> {
  const options = resolveTrainOptions({ call: run.options });
  const seed = options.seed ?? 0;
  const images = await openImages(options.data, {
    ...{ labels: false, seed },
    ...(options.resolution === null ? {} : { resolution: options.resolution }),
    ...(options.maxImages === null ? {} : { maxImages: options.maxImages }),
  });
  try {
    const { train, heldOut } = await holdOut(images, options.holdout, seed);
    torch.manualSeed(seed);
    const denoiser = createDenoiser(precondSpec(options, images));
    return await withTemporaryFolder(async (folder) => {
      const file = join(folder, 'images.safetensors');
      await writeImages(file, train);
      const setup = await setupOf(denoiser, options, { folder, images: file, budget: run.budgetSec });
      const name = 'PyTorch, as published';
      const python = await PythonProcess.start(
        pythonWithTorch(),
        'train.py',
        name,
        setup,
        denoiser.numParams(),
      );
      const stop = () => python.close();
      signal.addEventListener('abort', stop);
      try {
        return await evaluate(python, denoiser, heldOut, run, join(folder, 'average.safetensors'), signal);
      } finally {
        signal.removeEventListener('abort', stop);
        python.close();
      }
    });
  } finally {
    await images.close();
  }
}

async function evaluate(
  python: PythonProcess,
  denoiser: Denoiser,
  heldOut: DataSet,
  { budgetSec, evaluations }: PeerRun,
  average: string,
  signal: AbortSignal,
): Promise<Point[]> {
  const begin = performance.now();
  const points: Point[] = [];
  for (let k = 1; k <= evaluations && !signal.aborted; k++) {
    const until = (k / evaluations) * budgetSec;
    const { cpu, kimg } = await python.ask<{ cpu: number; kimg: number }>({ op: 'train', until, average });
    const file = torch.SafetensorsFile.openSync(average);
    const weights = new Map(file.names.map((name) => [name, file.tensor(name)]));
    // Buffers are constants.
    denoiser.loadStateDict(
      new Map([...(denoiser.stateDict() as ReadonlyMap<string, torch.Tensor>), ...weights]),
    );
    await file.close();
    for (const tensor of weights.values()) tensor.dispose();
    const loss = await heldOutLoss(denoiser.eval(), heldOut, { device: 'cpu', batch: 64 });
    const wallSec = (performance.now() - begin) / 1000;
    points.push({ cpuSec: cpu, wallSec, kimg, heldOutLoss: loss });
  }
  return points;
}

async function setupOf(
  denoiser: Denoiser,
  options: TrainOptions,
  { folder, images, budget }: { readonly folder: string; readonly images: string; readonly budget: number },
): Promise<object> {
  torch.setNumThreads(1);
  return {
    ...(await describeNetwork(denoiser, 'cpu', folder)),
    ...{ images, budget, seed: options.seed, batch: options.batch, real_p: options.realP, lr: options.lr },
    ...{ ramp_kimg: options.lrRampupKimg, halflife_kimg: options.emaHalflifeKimg },
    ...{ ramp_ratio: options.emaRampupRatio ?? Number.MAX_VALUE, cooldown: options.lrCooldown },
  };
}

/** All images as uint8 [N, C, H, W]. */
async function writeImages(file: string, set: DataSet): Promise<void> {
  const { length, channels, height, width } = set;
  const all = Int32Array.from({ length }, (_, index) => index);
  await set.ready(all);
  const corner = new Int32Array(length);
  const pixels = set.gather(all, { size: { height, width }, rows: corner, cols: corner });
  const images = torch.tensor(pixels as Uint8Array, { shape: [length, channels, height, width] });
  try {
    await torch.writeSafetensors(file, [['images', images]]);
  } finally {
    images.dispose();
  }
}
