/** Which device a run uses. */
import type { Device, MemoryFormat } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../errors.js';

/**
 * `auto` is the first GPU where libtorch has one, else the CPU.
 * @throws UserError when the device named is not there
 */
export function resolveDevice(name: string): Device {
  if (name === 'auto') return torch.cudaIsAvailable() ? 'cuda' : 'cpu';
  if (!/^(cpu|mps|cuda(:\d+)?)$/.test(name)) {
    throw new UserError(
      'BAD_DEVICE',
      `--device ${name} is not a device; use auto, cpu, cuda, cuda:1 or mps`,
      { exitCode: 2 },
    );
  }
  const index = Number(/^cuda:(\d+)$/.exec(name)?.[1] ?? 0);
  if (name.startsWith('cuda') && index >= torch.cudaDeviceCount()) {
    throw new UserError(
      'NO_SUCH_DEVICE',
      `--device ${name}: this libtorch sees ${torch.cudaDeviceCount()} CUDA devices; use --device cpu, or see \`patch-diffusion doctor\``,
    );
  }
  return name;
}

/** Where a network's weights lie, and how: on a CPU, channels-last convolutions are up to twice as fast. */
export function placement(device: Device): { device: Device; memoryFormat?: MemoryFormat } {
  return device === 'cpu' ? { device, memoryFormat: 'channelsLast' } : { device };
}
