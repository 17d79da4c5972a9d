/** The table that `Module.summary` prints. */
import type { Tensor } from '../tensor.js';

/** What the table needs of a module. */
interface ModuleTree {
  children(): Iterable<[string, ModuleTree]>;
  stateDict(): ReadonlyMap<string, Tensor>;
  namedParameters(): Iterable<[string, Tensor]>;
  namedBuffers(): Iterable<[string, Tensor]>;
}

interface Row {
  readonly name: string;
  readonly type: string;
  readonly params: string;
  readonly buffers: string;
  readonly shape: string;
}

const HEAD: Row = { name: 'Module', type: 'Type', params: 'Parameters', buffers: 'Buffers', shape: 'Shape' };

/**
 * One row per module down to `depth`; a module at that depth, or without children, counts all below it.
 * Tensors that a module with children registers itself have a row `(own)`.
 */
export function summaryTable(root: ModuleTree, depth: number): string {
  const rows: Row[] = [];
  walk(root, '', 0);
  const total: Row = { name: 'total', type: root.constructor.name, ...counts(root, all), shape: '' };
  const table = [HEAD, ...rows, total];
  const width = (key: keyof Row): number => Math.max(...table.map((row) => row[key].length));
  const widths = {
    name: width('name'),
    type: width('type'),
    params: width('params'),
    buffers: width('buffers'),
  };
  const lines = table.map(({ name, type, params, buffers, shape }) => {
    const left = `${name.padEnd(widths.name)}  ${type.padEnd(widths.type)}`;
    return `${left}  ${params.padStart(widths.params)}  ${buffers.padStart(widths.buffers)}  ${shape}`.trimEnd();
  });
  const rule = '-'.repeat(Math.max(...lines.map(({ length }) => length)));
  return [lines[0], rule, ...lines.slice(1, -1), rule, lines.at(-1)].join('\n');

  function walk(module: ModuleTree, path: string, level: number): void {
    const type = module.constructor.name;
    const children = [...module.children()];
    if (level === depth || children.length === 0) {
      rows.push({ name: path || '(own)', type, ...counts(module, all), shape: shapeOf(module) });
      return;
    }
    for (const [name, child] of children) walk(child, path === '' ? name : `${path}.${name}`, level + 1);
    if ([...module.stateDict().keys()].some(own)) {
      rows.push({ name: `${path} (own)`.trimStart(), type, ...counts(module, own), shape: '' });
    }
  }
}

const all = (): boolean => true;
const own = (name: string): boolean => !name.includes('.');

function counts(module: ModuleTree, select: (name: string) => boolean): { params: string; buffers: string } {
  const sum = (tensors: Iterable<[string, Tensor]>): string => {
    let elements = 0;
    for (const [name, { numel }] of tensors) if (select(name)) elements += numel;
    return elements.toLocaleString('en-US');
  };
  return { params: sum(module.namedParameters()), buffers: sum(module.namedBuffers()) };
}

/** The weight's shape where the module has one of its own. */
function shapeOf(module: ModuleTree): string {
  for (const [name, { shape }] of module.namedParameters())
    if (name === 'weight') return `[${shape.join(', ')}]`;
  return '';
}
