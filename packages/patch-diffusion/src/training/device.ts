/** Which device a run uses. */
import { readFileSync } from 'node:fs';
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

/** What stays free for everything else on the machine. */
const MEMORY_MARGIN_BYTES = 256 * 2 ** 20;

/**
 * Makes running out of memory an error with a message: without a limit, Linux ends the process instead. Does nothing
 * on other systems.
 */
export function guardMemory(): void {
  if (process.platform !== 'linux') return;
  const used = /^VmData:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
  if (!used) return;
  torch.limitMemory(Number(used[1]) * 1024 + process.availableMemory() - MEMORY_MARGIN_BYTES);
}
