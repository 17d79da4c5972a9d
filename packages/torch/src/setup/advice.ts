/** What would make training faster or keep it from failing on this machine, judged from the doctor's facts. */
import type { MachineFacts } from './facts.js';
import { type Host, setupCommand } from './host.js';
import { compareVersions, type Libtorch } from './libtorch.js';

/** What the loaded libtorch reports of itself. */
export interface RuntimeFacts {
  /** Threads that one operator uses. */
  readonly threads: number;
  /** Devices that libtorch can compute on through CUDA. */
  readonly cudaDevices: number;
  /** Why there are none, as far as libtorch reports. */
  readonly noCudaReason?: string | null;
}

/** One piece of advice: what was noticed, and what to do. */
export interface Advice {
  readonly code: 'OLD_LIBTORCH' | 'GPU_UNUSED' | 'FEW_THREADS' | 'MANY_THREADS' | 'LITTLE_MEMORY' | 'OLD_CPU';
  readonly message: string;
}

const GIB = 2 ** 30;

/** Advice from the facts; empty when there is nothing to improve. */
export function advise(
  machine: MachineFacts,
  libtorch: Pick<Libtorch, 'version' | 'cuda'>,
  runtime: RuntimeFacts | undefined,
  host: Pick<Host, 'installed' | 'projectDir'>,
): Advice[] {
  const advice: Advice[] = [];
  const say = (code: Advice['code'], message: string) => advice.push({ code, message });
  const { cpu, gpus, memory } = machine;

  if (compareVersions(libtorch.version, '2.0') < 0) {
    say(
      'OLD_LIBTORCH',
      `libtorch ${libtorch.version} lacks fused Adam, fused attention and newer kernels (up to 1.2 times faster on a CPU). Get the newest: ${setupCommand(host, { fetch: true })}`,
    );
  }
  const name = gpus[0]?.name;
  if (name && !libtorch.cuda) {
    say(
      'GPU_UNUSED',
      `A GPU is present (${name}), but this libtorch is a build for CPUs. Point LIBTORCH at a CUDA build, or remove .libtorch and run the set-up again.`,
    );
  } else if (name && runtime && runtime.cudaDevices === 0) {
    say(
      'GPU_UNUSED',
      `A GPU is present (${name}, driver ${gpus[0].driver}), but libtorch cannot use it: ${runtime.noCudaReason ?? 'the driver may be too old for it'}. Update the driver, or take a libtorch that fits it.`,
    );
  }
  if (runtime && runtime.threads < cpu.cores) {
    say(
      'FEW_THREADS',
      `libtorch uses ${runtime.threads} of ${cpu.cores} cores. Unset OMP_NUM_THREADS, or pass --threads ${cpu.cores}.`,
    );
  }
  if (runtime && runtime.threads > cpu.threads) {
    say(
      'MANY_THREADS',
      `libtorch uses ${runtime.threads} threads on ${cpu.threads} processors; they will wait for each other. Set OMP_NUM_THREADS=${cpu.cores}.`,
    );
  }
  if (memory.totalBytes < 4 * GIB) {
    say(
      'LITTLE_MEMORY',
      `${(memory.totalBytes / GIB).toFixed(1)} GiB of memory in all: use --batch-gpu to train in smaller pieces.`,
    );
  }
  if (!cpu.vector.some((set) => set !== 'AVX') && !runtime?.cudaDevices) {
    say('OLD_CPU', 'This processor has no AVX2; training will be several times slower than on one that has.');
  }
  return advice;
}
