/** Opens what Python's `pickle.dump` and `torch.save` write: tells the three formats apart by their first bytes. */

import { lfsPointerError } from '../lfs-pointer.js';
import { Budget } from '../pickle/budget.js';
import type { ByteSource } from '../pickle/byte-source.js';
import { readPickle } from '../pickle/pickle.js';
import { setState, torchGlobals } from './globals.js';
import { readLegacy } from './legacy.js';
import { readTorchZip } from './zip.js';

export { ModuleRecord } from './globals.js';
export { stateDictOf, unwrappedName } from './state-dict.js';
export { TensorRef } from './tensors.js';

/** The length of a pickled magic number: PROTO, LONG1 and ten bytes. */
const LEGACY_START = Buffer.from('80028a0a6cfc9c46f9206aa85019', 'hex');

/**
 * Reads the object in a checkpoint file. Tensors become {@link TensorRef}s whose data is read when asked for, so the
 * source must stay open until then.
 *
 * @param file name for messages
 * @throws UserError when the file is damaged, unsafe, or something else
 */
export async function readTorchFile(source: ByteSource, file: string): Promise<unknown> {
  const budget = new Budget(file, source.size);
  const head = source.read(0, Math.min(64, source.size));
  if (head[0] === 0x50 && head[1] === 0x4b) return readTorchZip(source, budget);
  if (LEGACY_START.every((byte, i) => head[i] === byte)) return readLegacy(source, budget);
  if (head[0] === 0x80 && head[1] >= 2 && head[1] <= 5) return readPlain(source, budget);
  throw lfsPointerError(head, file) ?? budget.fail('it is neither a pickle nor a PyTorch file');
}

function readPlain(source: ByteSource, budget: Budget): unknown {
  // Nested streams hold one bare storage each; they use fewer names than the pickle around them.
  const inner = torchGlobals(budget, null);
  const globals = torchGlobals(budget, (bytes) => readLegacy(bytes, budget, inner));
  const host = {
    find: (name: string) => globals.get(name),
    persistent: () => budget.refuse('it refers to objects outside of itself'),
    build: setState,
  };
  return readPickle(source, 0, host, budget).value;
}
