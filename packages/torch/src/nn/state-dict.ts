/** Comparing a state dict with a module before anything is copied. */
import type { Tensor } from '../tensor.js';

/** How `Module.loadStateDict` reads. */
export interface LoadStateDictOptions {
  /** Throw unless names and shapes fit exactly (default true); else copy what fits. */
  readonly strict?: boolean;
  /** Read only the dict's names that begin with this (for example `ema.`); it is removed from them. */
  readonly prefix?: string;
}

/** How the names matched; without the prefix, each list in the order of its source. */
export interface LoadReport {
  matched: string[];
  /** In the module, not in the dict. */
  missing: string[];
  /** In the dict, not in the module. */
  unexpected: string[];
  /** In both, with different shapes. */
  mismatched: string[];
}

/** A state dict does not fit the module; `report` holds all names. */
export class StateDictError extends Error {
  override readonly name = 'StateDictError';
  readonly code = 'state-dict';
  readonly report: LoadReport;

  constructor(message: string, report: LoadReport) {
    super(message);
    this.report = report;
  }
}

/**
 * @param owner - The module's class, for messages.
 * @throws StateDictError in strict mode, naming the first few names of each kind.
 */
export function checkStateDict(
  owner: string,
  own: ReadonlyMap<string, Tensor>,
  dict: ReadonlyMap<string, Tensor>,
  { strict = true, prefix = '' }: LoadStateDictOptions,
): LoadReport {
  const report: LoadReport = { matched: [], missing: [], unexpected: [], mismatched: [] };
  const shapes: string[] = [];
  for (const [name, target] of own) {
    const source = dict.get(prefix + name);
    if (source === undefined) {
      report.missing.push(name);
    } else if (String(source.shape) !== String(target.shape)) {
      report.mismatched.push(name);
      shapes.push(`${name} [${source.shape}] for [${target.shape}]`);
    } else {
      report.matched.push(name);
    }
  }
  for (const name of dict.keys()) {
    if (name.startsWith(prefix) && !own.has(name.slice(prefix.length))) {
      report.unexpected.push(name.slice(prefix.length));
    }
  }
  const problems = [
    list('missing', report.missing),
    list('unexpected', report.unexpected),
    list('of another shape', shapes),
  ].filter((text) => text !== '');
  if (strict && problems.length > 0) {
    const remedy = 'check that the options match those the weights were made with';
    throw new StateDictError(`the weights do not fit ${owner}: ${problems.join('; ')}; ${remedy}`, report);
  }
  return report;
}

function list(kind: string, names: readonly string[]): string {
  if (names.length === 0) return '';
  const more = names.length > 3 ? `, and ${names.length - 3} more` : '';
  return `${names.length} ${kind} (${names.slice(0, 3).join(', ')}${more})`;
}
