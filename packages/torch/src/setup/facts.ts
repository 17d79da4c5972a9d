/**
 * Facts about the machine for the doctor: processor, memory, GPUs. Read from the system's own files; only GPUs
 * and macOS are asked through their tools (`nvidia-smi`, `sysctl`).
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { join } from 'node:path';
import type { Host } from './host.js';

/** What the machine is. */
export interface MachineFacts {
  readonly node: string;
  readonly os: string;
  readonly cpu: {
    readonly model: string;
    /** Hardware threads that this process may use. */
    readonly threads: number;
    /** Physical cores, as far as the system reports them. */
    readonly cores: number;
    /** The vector instructions that libtorch's kernels use, the widest last. */
    readonly vector: readonly string[];
  };
  readonly memory: { readonly totalBytes: number; readonly freeBytes: number };
  /** NVIDIA GPUs that the driver reports, whether libtorch can use them or not. */
  readonly gpus: readonly { readonly name: string; readonly memory: string; readonly driver: string }[];
}

/** Gathers them; takes some milliseconds, a second where there are GPUs. */
export function gatherMachineFacts(host: Host): MachineFacts {
  const info = readText(join(host.systemRoot, 'proc/cpuinfo'));
  const threads = availableParallelism();
  return {
    node: process.version,
    os: osName(host),
    cpu: {
      model: cpus()[0]?.model.trim() || 'unknown',
      threads,
      cores: Math.min(threads, physicalCores(host, info) ?? threads),
      vector: vectorInstructions(host, info),
    },
    memory: { totalBytes: totalmem(), freeBytes: freemem() },
    gpus: nvidiaGpus(),
  };
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function osName(host: Host): string {
  const release = readText(join(host.systemRoot, 'etc/os-release'));
  const name = /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(release)?.[1] ?? host.platform;
  return `${name}, ${host.arch}`;
}

/** Distinct (socket, core) pairs of /proc/cpuinfo, or macOS' own count. */
function physicalCores(host: Host, info: string): number | undefined {
  if (host.platform === 'darwin') return Number(ask('sysctl', ['-n', 'hw.physicalcpu'])) || undefined;
  const cores = info
    .split('\n\n')
    .map((block) => [/^physical id\s*: (.*)$/m.exec(block)?.[1], /^core id\s*: (.*)$/m.exec(block)?.[1]])
    .filter(([, core]) => core !== undefined);
  return cores.length ? new Set(cores.map(String)).size : undefined;
}

function vectorInstructions(host: Host, info: string): string[] {
  const text =
    host.platform === 'darwin' ? ask('sysctl', ['-n', 'machdep.cpu.features']).toLowerCase() : info;
  const flags = new Set((/^(?:flags|Features)\s*: (.*)$/m.exec(text)?.[1] ?? text).split(/\s+/));
  const known: [string, string][] = [
    ['asimd', 'NEON'],
    ['sve', 'SVE'],
    ['avx', 'AVX'],
    ['avx2', 'AVX2'],
    ['avx512f', 'AVX-512'],
    ['avx512_bf16', 'AVX-512 BF16'],
    ['amx_bf16', 'AMX BF16'],
  ];
  const found = known.filter(([flag]) => flags.has(flag)).map(([, name]) => name);
  return found.length === 0 && host.arch === 'arm64' ? ['NEON'] : found;
}

function nvidiaGpus(): MachineFacts['gpus'] {
  return ask('nvidia-smi', ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader'])
    .split('\n')
    .map((line) => line.split(',').map((part) => part.trim()))
    .filter((parts) => parts.length === 3)
    .map(([name, memory, driver]) => ({ name: name!, memory: memory!, driver: driver! }));
}

/** What a program prints, or nothing where it is missing or fails. */
function ask(program: string, args: string[]): string {
  const run = spawnSync(program, args, {
    encoding: 'utf8',
    timeout: 10_000,
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  return run.status === 0 ? run.stdout.trim() : '';
}
