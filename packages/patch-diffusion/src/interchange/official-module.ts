/** From the module records of an official checkpoint to named tensors and constructor arguments. */
import { UserError } from '../common/errors.js';
import { ModuleRecord, TensorRef } from '../formats/torch-file/index.js';

/**
 * No network of this kind is deeper or has more modules and tensors. A pickle can refer to the same module again and
 * again, even to one that contains itself, so every visit counts, not every module.
 */
const MAX_DEPTH = 16;
const MAX_VISITS = 50_000;

/** One tensor of a module. */
export interface NamedTensor {
  readonly name: string;
  readonly tensor: TensorRef;
  readonly isParameter: boolean;
}

/** Parameters and buffers in state-dict order, under PyTorch's dotted names. @throws UserError for a broken tree */
export function namedTensors(root: ModuleRecord, file: string): NamedTensor[] {
  const found: NamedTensor[] = [];
  let visits = 0;
  const visit = () => {
    if (++visits > MAX_VISITS) throw broken(file, 'it has more modules than any of these networks');
  };
  const walk = (module: unknown, prefix: string, depth: number): void => {
    visit();
    if (!(module instanceof ModuleRecord) || depth > MAX_DEPTH)
      throw broken(file, `${prefix || 'the network'} is no module`);
    for (const [field, isParameter] of [
      ['_parameters', true],
      ['_buffers', false],
    ] as const) {
      for (const [name, tensor] of mapOf(module.state.get(field))) {
        visit();
        if (tensor === null) continue;
        if (typeof name !== 'string' || !(tensor instanceof TensorRef)) {
          throw broken(file, `${prefix}${String(name)} is no tensor`);
        }
        found.push({ name: prefix + name, tensor, isParameter });
      }
    }
    for (const [name, child] of mapOf(module.state.get('_modules'))) {
      if (child === null) visit();
      else walk(child, `${prefix}${String(name)}.`, depth + 1);
    }
  };
  walk(root, '', 0);
  return found;
}

/** Shape of each tensor by its name. */
export function shapesOf(tensors: readonly NamedTensor[]): ReadonlyMap<string, readonly number[]> {
  return new Map(tensors.map(({ name, tensor }) => [name, tensor.shape]));
}

/** The constructor's keyword arguments as recorded, as plain JSON-like values; null where recording was off. */
export function initArguments(module: ModuleRecord, file: string): Record<string, unknown> | null {
  const recorded = module.state.get('_init_kwargs');
  return recorded instanceof Map ? plainObject(recorded, file) : null;
}

/** A dictionary with text keys whose values are numbers, text, booleans, null or lists of them. Others are left out. */
export function plainObject(map: ReadonlyMap<unknown, unknown>, file: string): Record<string, unknown> {
  const entries = [...map].flatMap(([key, value]): [string, unknown][] => {
    const plain = plainValue(value);
    return typeof key === 'string' && plain !== undefined ? [[key, plain]] : [];
  });
  if (entries.length > 1000) throw broken(file, 'a network with more than 1000 arguments');
  return Object.fromEntries(entries);
}

function plainValue(value: unknown): unknown {
  if (value === null || ['number', 'string', 'boolean'].includes(typeof value)) return value;
  const isPlain = (v: unknown) => v === null || ['number', 'string', 'boolean'].includes(typeof v);
  if (Array.isArray(value) && value.length <= 64 && value.every(isPlain)) return [...value];
  return undefined;
}

export function mapOf(value: unknown): ReadonlyMap<unknown, unknown> {
  return value instanceof Map ? value : new Map();
}

export function broken(file: string, what: string): UserError {
  return new UserError(
    'BAD_CHECKPOINT',
    `${file} is not a usable checkpoint: ${what}; copy or download it again`,
  );
}
