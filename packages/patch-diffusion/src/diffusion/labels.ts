/** Labels of images, as data sets have them and conditional networks take them. Without Node or native imports. */

/** A class number, or a vector of numbers. */
export type Label = number | readonly number[];

/**
 * Labels as rows [N, labelDim], one-hot for class numbers.
 * @example
 * ```ts
 * labelRows([1, [0.5, 0, 0]], 3); // 0, 1, 0, 0.5, 0, 0
 * ```
 */
export function labelRows(labels: readonly Label[], labelDim: number): Float32Array {
  const rows = new Float32Array(labels.length * labelDim);
  for (const [n, label] of labels.entries()) {
    if (typeof label === 'number') rows[n * labelDim + label] = 1;
    else rows.set(label, n * labelDim);
  }
  return rows;
}

/**
 * One label per sample. There is a draw also where there is no choice, so that all other draws stay the same.
 * @param integers draws a uniform integer in [0, count) per sample
 * @param labels what is drawn from; null for all classes
 * @example
 * ```ts
 * const streams = [1, 2, 3].map((seed) => new PortableRandom(seed));
 * const labels = drawLabels((count) => streams.map((stream) => stream.label(count)), 10, null); // 3 class numbers
 * ```
 */
export function drawLabels(
  integers: (count: number) => readonly number[],
  labelDim: number,
  labels: readonly Label[] | null,
): Label[] {
  const drawn = integers(labels?.length ?? labelDim);
  return labels ? drawn.map((k) => labels[k]) : [...drawn];
}
