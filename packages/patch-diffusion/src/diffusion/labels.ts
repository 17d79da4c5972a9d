/** Labels of images, as data sets have them and conditional networks take them. */

/** A class number, or a vector of numbers. */
export type Label = number | readonly number[];

/** Labels as rows [N, labelDim], one-hot for class numbers. */
export function labelRows(labels: readonly Label[], labelDim: number): Float32Array {
  const rows = new Float32Array(labels.length * labelDim);
  for (const [n, label] of labels.entries()) {
    if (typeof label === 'number') rows[n * labelDim + label] = 1;
    else rows.set(label, n * labelDim);
  }
  return rows;
}
