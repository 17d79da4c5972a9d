/** State dicts as training scripts save them: bare or inside a checkpoint, with the prefixes of PyTorch's wrappers. */
import { TensorRef } from './tensors.js';

/** Keys under which checkpoints keep weights; averaged ones first. */
const PLACES = ['ema', 'model_ema', 'ema_state_dict', 'state_dict', 'model_state_dict', 'model', 'net'];
const MAX_DEPTH = 2;

/** Names and tensors of a state dict, or null where `value` holds none. */
export function stateDictOf(value: unknown, depth = 0): ReadonlyMap<string, TensorRef> | null {
  if (!(value instanceof Map) || value.size === 0 || depth > MAX_DEPTH) return null;
  const dict = new Map<string, TensorRef>();
  for (const [name, tensor] of value) {
    if (typeof name !== 'string' || !(tensor instanceof TensorRef)) {
      return PLACES.map((place) => stateDictOf(value.get(place), depth + 1)).find(Boolean) ?? null;
    }
    // The counter of `torch.optim.swa_utils.AveragedModel`.
    if (name !== 'n_averaged') dict.set(unwrappedName(name), tensor);
  }
  return dict;
}

/** A tensor's name without what `DataParallel` (`module.`) and `torch.compile` (`_orig_mod.`) add to it. */
export function unwrappedName(name: string): string {
  return name.replace(/(^|\.)(?:(?:module|_orig_mod)\.)+/g, '$1');
}
