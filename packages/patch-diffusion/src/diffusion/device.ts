/** Which device a network runs on, and how its weights lie there. */
import { readFileSync } from 'node:fs';
import type { Device, MemoryFormat } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { programName } from '../common/program-name.js';
import { activationDtype, type Precision, type PrecisionChoice } from './precision.js';
import type { Denoiser } from './preconditioning.js';

/**
 * `auto` is the first CUDA device where libtorch has one, else the CPU.
 * @throws UserError when the device named is not there
 * @example
 * ```ts
 * const device = resolveDevice('auto'); // 'cuda' or 'cpu'
 * ```
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
  if (name === 'mps' && !torch.mpsIsAvailable()) {
    throw new UserError(
      'NO_SUCH_DEVICE',
      '--device mps: this libtorch has no Metal device (it needs a Mac with Apple silicon); use --device cpu',
    );
  }
  const index = Number(/^cuda:(\d+)$/.exec(name)?.[1] ?? 0);
  if (name.startsWith('cuda') && index >= torch.cudaDeviceCount()) {
    throw new UserError(
      'NO_SUCH_DEVICE',
      `--device ${name}: this libtorch sees ${torch.cudaDeviceCount()} CUDA devices; use --device cpu, or see \`${programName()} doctor\``,
    );
  }
  return name;
}

/**
 * Where a network's weights lie, and how: on a CPU, channels-last convolutions are quicker in float32 and bfloat16.
 */
export function placement(device: Device): { device: Device; memoryFormat?: MemoryFormat } {
  return device === 'cpu' ? { device, memoryFormat: 'channelsLast' } : { device };
}

/**
 * Moves a denoiser to its device and lets it compute in that precision; its weights stay float32.
 * TF32 is a switch of the whole library: the last call counts.
 * @throws UserError when the device cannot do it well
 * @example
 * ```ts
 * const { denoiser } = await loadSnapshot(await newestSnapshot('runs/00000-photos') ?? '');
 * prepareDenoiser(denoiser, resolveDevice('auto'), 'fp32');
 * denoiser.dispose();
 * ```
 */
export function prepareDenoiser<D extends Denoiser>(denoiser: D, device: Device, choice: PrecisionChoice): D {
  checkPrecision(choice, device);
  const precision = resolvePrecision(choice, device);
  torch.setFlag('tf32', precision === 'tf32');
  denoiser.computeDtype = activationDtype(precision);
  return denoiser.to(placement(device));
}

/**
 * The precision that `auto` stands for on a device: bfloat16 on CPUs with AVX512-BF16 or AMX and on CUDA GPUs of compute
 * capability 8.0 or more, else float32. Other choices stay as they are.
 * @example
 * ```ts
 * const precision = resolvePrecision('auto', resolveDevice('auto')); // 'bf16' or 'fp32'
 * ```
 */
export function resolvePrecision(choice: PrecisionChoice, device: Device): Precision {
  if (choice !== 'auto') return choice;
  return isFastInBfloat16(device) ? 'bf16' : 'fp32';
}

function isFastInBfloat16(device: Device): boolean {
  if (device.startsWith('cuda')) {
    return torch.cudaDeviceInfo(Number(device.split(':')[1] ?? 0)).computeCapability >= 8;
  }
  // Without oneDNN, or before libtorch 2.0, bfloat16 is computed by slow generic loops.
  const { oneDnn, cpuCapability } = torch.version();
  if (device !== 'cpu' || !oneDnn || cpuCapability === null || process.platform !== 'linux') return false;
  return /\bflags\b.*\b(avx512_bf16|amx_bf16)\b/.test(readFileSync('/proc/cpuinfo', 'utf8'));
}

/** @throws UserError for float16 on a CPU, which hardly any can multiply (an update takes ten times as long) */
export function checkPrecision(precision: PrecisionChoice, device: Device): void {
  if (precision !== 'fp16' || device !== 'cpu') return;
  throw new UserError(
    'BAD_PRECISION',
    '--precision fp16 needs a GPU; on a CPU use --precision bf16 (fast where the CPU has AVX512-BF16 or AMX) or fp32',
    { exitCode: 2 },
  );
}
