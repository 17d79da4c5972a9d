/** Builds the native addon against the PyTorch that is there, and says what machine this is. */
import { setup } from '@patch-diffusion/torch/setup';
import { log } from '../../progress.js';
import type { StageContext } from './context.js';

export async function build({ device, emit }: StageContext): Promise<void> {
  const begin = performance.now();
  const { libtorch } = await setup({ log });
  const seconds = (performance.now() - begin) / 1000;
  const from = `libtorch ${libtorch.version} of ${libtorch.root}${libtorch.cuda ? ', with CUDA' : ''}`;
  emit({ name: 'addon', status: 'ok', detail: from, figures: { seconds } });
  const torch = await import('@patch-diffusion/torch');
  const { noCudaReason } = torch.version();
  if (device !== 'cpu' && !torch.cudaIsAvailable())
    throw new Error(`no CUDA device can be used: ${noCudaReason ?? 'libtorch finds none'}`);
  const { describeMachine, machineText } = await import('../../machine.js');
  emit({ name: 'machine', status: 'ok', detail: machineText(describeMachine(device)) });
  if (device === 'cpu') return;
  const { totalBytes, computeCapability } = torch.cudaDeviceInfo(0);
  const memory = `${(totalBytes / 2 ** 30).toFixed(0)} GiB, compute capability ${computeCapability}`;
  emit({ name: 'GPU', status: 'ok', detail: memory, figures: { totalBytes, computeCapability } });
}
