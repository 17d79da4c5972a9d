/** How many processes train where `--nproc` does not say. */
import type { TrainOptions } from '../config/train-options.js';

/**
 * A resumed run keeps its number. A new one gets a process for each GPU; on a CPU two, each with half of the cores: they
 * do more than one with all of them (docs/performance.md).
 */
export async function chooseProcesses(options: TrainOptions): Promise<number> {
  const { earlierRunJson } = await import('../training/resume.js');
  const earlier = await earlierRunJson(options);
  if (earlier) return earlier.processes ?? 1;
  const count = await processesOfNewRun(options);
  return (options.batchGpu ?? options.batch) % count === 0 ? count : 1;
}

async function processesOfNewRun({ device, threads, rankSizes }: TrainOptions): Promise<number> {
  const torch = await import('@patch-diffusion/torch');
  // Sizes of their own make the result depend on the number.
  if (rankSizes === 'independent' || !torch.distributedIsAvailable()) return 1;
  const { resolveDevice } = await import('../diffusion/device.js');
  const chosen = resolveDevice(device);
  if (chosen === 'cuda') return Math.max(torch.cudaDeviceCount(), 1);
  // Who names threads has planned what this process takes.
  if (chosen !== 'cpu' || threads !== null || process.env.OMP_NUM_THREADS) return 1;
  const cores = torch.getNumThreads();
  return cores > 0 && cores % 2 === 0 ? 2 : 1;
}
