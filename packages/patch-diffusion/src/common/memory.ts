/** Running out of memory as an error that names the options to lower, not as the end of the process. */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import * as torch from '@patch-diffusion/torch';
import { UserError } from './errors.js';

/** What stays free for everything else on the machine. */
const MARGIN_BYTES = 256 * 2 ** 20;
/** A job gets at least this; where even that is too much, the system decides. */
const FLOOR_BYTES = 512 * 2 ** 20;

/** What libtorch, its CUDA allocator, oneDNN, the C++ library and V8 say. */
const OUT_OF_MEMORY =
  /out of memory|can't allocate memory|not enough memory|Array buffer allocation failed|std::bad_alloc|could not create a (primitive|memory)/i;

/**
 * Does work that may need much memory.
 * @param remedy what to lower, such as "lower --batch"
 * @throws UserError with the remedy when memory runs out
 */
export async function withMemoryGuard<T>(remedy: string, work: () => Promise<T>): Promise<T> {
  limitMemory();
  try {
    return await work();
  } catch (error) {
    throw explainMemory(error, remedy);
  }
}

/** An allocation failure as an error with the remedy; others pass through. */
export function explainMemory(error: unknown, remedy: string): unknown {
  const text = error instanceof Error ? error.message : '';
  if (error instanceof UserError || !OUT_OF_MEMORY.test(text)) return error;
  return new UserError('OUT_OF_MEMORY', `out of memory; ${remedy}`, { cause: error });
}

/** Without a limit, Linux ends the process. Does nothing on other systems. */
function limitMemory(): void {
  if (process.platform !== 'linux') return;
  const used = /^VmData:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
  if (!used) return;
  const available = process.availableMemory() + reclaimableBytes() - MARGIN_BYTES;
  torch.limitMemory(Number(used[1]) * 1024 + Math.max(available, FLOOR_BYTES));
}

/** In a control group with a limit, files that the system has cached count as used, though it would drop them. */
function reclaimableBytes(): number {
  const limit = process.constrainedMemory();
  if (!limit || limit >= totalmem()) return 0;
  try {
    const group = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1] ?? '/';
    const stat = readFileSync(`/sys/fs/cgroup${group}/memory.stat`, 'utf8');
    return Number(/^inactive_file (\d+)$/m.exec(stat)?.[1] ?? 0);
  } catch {
    return 0;
  }
}
