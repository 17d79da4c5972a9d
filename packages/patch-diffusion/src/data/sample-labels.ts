/**
 * Labels of generated images: which ones are drawn, so that no network is asked for what it has never seen, and how they
 * are recorded.
 */
import { Mt19937 } from '../common/mt19937.js';
import type { Label } from '../diffusion/labels.js';
import type { DataSet } from './types.js';

/** Label vectors that are kept, at most, and the numbers in all of them. */
const MAX_VECTORS = 1000;
const MAX_NUMBERS = 100_000;

/**
 * The labels of a data set that samples are drawn from: the classes that have images, or some of the distinct label
 * vectors, chosen by `seed`.
 * @returns null where all classes have images, and without labels
 */
export function labelsToDraw(
  set: Pick<DataSet, 'labelDim' | 'baseLength' | 'labelOf'>,
  seed: number,
): readonly Label[] | null {
  const { labelDim, baseLength } = set;
  if (labelDim === 0) return null;
  if (typeof set.labelOf(0) === 'number') {
    const classes = new Set<number>();
    for (let i = 0; i < baseLength && classes.size < labelDim; i++) classes.add(set.labelOf(i) as number);
    return classes.size === labelDim ? null : [...classes].sort((a, b) => a - b);
  }
  const limit = Math.max(1, Math.min(MAX_VECTORS, Math.floor(MAX_NUMBERS / labelDim)));
  const vectors = new Map<string, readonly number[]>();
  const order = new Mt19937(seed).shuffle(Int32Array.from({ length: baseLength }, (_, i) => i));
  for (let k = 0; k < order.length && vectors.size < limit; k++) {
    const vector = (set.labelOf(order[k]) as readonly number[]).map(shortestFloat);
    vectors.set(String(vector), vector);
  }
  return [...vectors.values()];
}

/** The shortest decimal number that float32, in which networks take it, does not tell from x. */
function shortestFloat(x: number): number {
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(x.toPrecision(digits));
    if (Math.fround(short) === Math.fround(x)) return short;
  }
  return Number(x.toPrecision(9));
}

/**
 * `7 classes`, `2 of 8 classes with images`, `labels of 2 numbers`, or `no labels`.
 * @param labels see {@link labelsToDraw}
 */
export function describeLabels(labelDim: number, labels: readonly Label[] | null | undefined): string {
  if (labelDim === 0) return 'no labels';
  if (typeof labels?.[0] === 'object') return `labels of ${labelDim} numbers`;
  return labels ? `${labels.length} of ${labelDim} classes with images` : `${labelDim} classes`;
}

/** A label as it is recorded beside an image. */
export type LabelRecord =
  | { readonly class: number; readonly name?: string }
  | { readonly label: readonly number[] };

export function labelRecord(label: Label, classNames: readonly string[] | null): LabelRecord {
  if (typeof label !== 'number') return { label };
  const name = classNames?.[label];
  return name === undefined ? { class: label } : { class: label, name };
}

/** Records of a sheet's images, row by row, as text of its PNG file; nothing without labels. */
export function sheetText(records: readonly LabelRecord[]): Record<string, string> {
  return records.length ? { Labels: JSON.stringify(records) } : {};
}

/** The record of an image as text of its PNG file. */
export function labelText(record: LabelRecord): Record<string, string> {
  if ('label' in record) return { Label: record.label.join(',') };
  const { class: index, name } = record;
  return { Class: String(index), ...(name === undefined ? {} : { 'Class name': name }) };
}
