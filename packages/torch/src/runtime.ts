/**
 * The loaded libtorch: its version, threads, devices and numeric switches.
 */
import type { Device } from './dtype.js';
import { type NativeVersion, native } from './native.js';

/** Facts about the loaded libtorch. */
export interface Version extends Readonly<NativeVersion> {}

/** Version and build of the loaded libtorch, and why there is no GPU support where there is none. */
export function version(): Version {
  return native().version();
}

/** CPU threads that one operator uses. */
export function getNumThreads(): number {
  return native().getNumThreads();
}

/** Sets the CPU threads that one operator uses, for operators called from this JavaScript thread. */
export function setNumThreads(threads: number): void {
  native().setNumThreads(threads);
}

/**
 * Limits the writable memory of this process, so that asking for more throws an error instead of having the system
 * end the process. Linux only.
 * @returns whether the limit was set
 */
export function limitMemory(bytes: number): boolean {
  return native().limitMemory(bytes);
}

/** Number of usable CUDA (or ROCm) devices. */
export function cudaDeviceCount(): number {
  return native().cudaDeviceCount();
}

/** Whether there is a usable CUDA (or ROCm) device. */
export function cudaIsAvailable(): boolean {
  return cudaDeviceCount() > 0;
}

/** Name, memory and compute capability (such as 8.6; 0 where the driver does not say) of a CUDA device. */
export function cudaDeviceInfo(index = 0): {
  name: string;
  totalBytes: number;
  computeCapability: number;
} {
  return native().cudaDeviceInfo(index);
}

/** Memory that libtorch uses on a CUDA device; null before its first use and where this libtorch cannot tell (before 2.9). */
export function cudaMemory(
  index = 0,
): { allocatedBytes: number; peakAllocatedBytes: number; reservedBytes: number } | null {
  return native().cudaMemory(index);
}

/** Whether Apple's GPU backend is usable. */
export function mpsIsAvailable(): boolean {
  return native().mpsIsAvailable();
}

/** Waits until everything enqueued on a device is done. Nothing to do for `cpu`. */
export function synchronize(device: Device = 'cuda'): void {
  if (device === 'cuda' && !cudaIsAvailable()) return;
  native().synchronize(device);
}

/**
 * Switches of the library.
 *
 * - `cudnnBenchmark`: try cuDNN's algorithms per shape and take the fastest
 * - `tf32`: TF32 in float32 matrix products and convolutions on NVIDIA GPUs
 * - `deterministic`: same bits in every run, slower where needed
 * - `flushDenormal`: treat denormal numbers as zero (this thread, CPU)
 * - `oneDnn`: use oneDNN's CPU kernels
 */
export type Flag = 'cudnnBenchmark' | 'tf32' | 'deterministic' | 'flushDenormal' | 'oneDnn';

/** Sets one of the library's switches. */
export function setFlag(name: Flag, on: boolean): void {
  native().setFlag(name, on);
}
