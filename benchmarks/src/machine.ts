/** Where the figures come from: without it they mean nothing. */
import { cpus, loadavg } from 'node:os';
import * as torch from '@patch-diffusion/torch';
import { resolvePrecision } from 'patch-diffusion/method';

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly threads: number;
  readonly gpu: string | null;
  readonly node: string;
  readonly libtorch: string;
  /** libtorch's widest vector instructions in use. */
  readonly cpuCapability: string | null;
  /** One-minute load average when the benchmark began. */
  readonly loadBefore: number;
  readonly date: string;
}

export function describeMachine(device: string): Machine {
  const { torch: libtorch, cpuCapability } = torch.version();
  return {
    cpu: cpus()[0]?.model ?? 'unknown CPU',
    cores: cpus().length,
    threads: torch.getNumThreads(),
    gpu: device.startsWith('cuda') ? torch.cudaDeviceInfo(0).name : null,
    node: process.version,
    libtorch,
    cpuCapability,
    loadBefore: loadavg()[0] ?? 0,
    date: new Date().toISOString(),
  };
}

export function machineText({ cpu, cores, threads, gpu, node, libtorch, loadBefore }: Machine): string {
  const load = `load average before: ${loadBefore.toFixed(2)}`;
  const warning = loadBefore > 0.5 ? ' (the machine was not idle: times are inflated)' : '';
  const parts = [`${cpu}, ${cores} cores`, `threads: ${threads}`, ...(gpu ? [gpu] : [])];
  return `${[...parts, `libtorch ${libtorch}`, `Node ${node}`, load].join('; ')}${warning}`;
}

/**
 * The kind of processor. Those of one name may differ in what they are quick at (AVX-512, bfloat16), so it is named with the
 * precision that `auto` is here.
 */
export const processorKind = (): string =>
  `${describeMachine('cpu').cpu}, ${resolvePrecision('auto', 'cpu')}`;
