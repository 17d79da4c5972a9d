/**
 * Sizes that are known only when a network runs. A forward pass is recorded several times with other sizes; a number
 * that is not the same in all recordings is a product of the batch, the height and the width, or one side and a margin.
 */

/** Batch, height and width of a recording. */
export interface Sizes {
  readonly batch: number;
  readonly height: number;
  readonly width: number;
}

const SIZE_NAMES = ['batch', 'height', 'width'] as const satisfies (keyof Sizes)[];
type SizeName = (typeof SIZE_NAMES)[number];

/** `factor` times the product of the sizes named, plus `offset`: half the height + 2, or a quarter of height · width. */
export interface SymbolicSize {
  readonly factor: number;
  readonly of: readonly SizeName[];
  readonly offset: number;
}

export type Dim = number | SymbolicSize;

const PRODUCTS = SIZE_NAMES.reduce<SizeName[][]>(
  (products, name) => products.flatMap((product) => [product, [...product, name]]),
  [[]],
);

/**
 * The sizes to record with. No product of them is the same in two recordings, none of them follows from another, and the
 * third recording tells whether what the first two suggest holds.
 * @param multiple both sides must be divided by this
 */
export function recordingSizes(multiple: number): readonly Sizes[] {
  return [
    { batch: 2, height: 3 * multiple, width: 7 * multiple },
    { batch: 3, height: 5 * multiple, width: 5 * multiple },
    { batch: 5, height: 7 * multiple, width: 11 * multiple },
  ];
}

/**
 * What the numbers, one of each recording, have in common.
 * @throws Error where they do not follow from the sizes
 */
export function generalise(values: readonly number[], recordings: readonly Sizes[]): Dim {
  if (values.every((value) => value === values[0])) return values[0];
  for (const of of PRODUCTS) {
    const factors = values.map((value, i) => of.reduce((rest, name) => rest / recordings[i][name], value));
    const isSame = factors.every((factor) => Math.abs(factor / factors[0] - 1) < 1e-12);
    if (isSame) return { factor: factors[0], of, offset: 0 };
  }
  for (const name of ['height', 'width'] as const) {
    const sides = recordings.map((sizes) => sizes[name]);
    const factor = (values[1] - values[0]) / (sides[1] - sides[0]);
    const offset = values[0] - factor * sides[0];
    if (values.every((value, i) => Math.abs(factor * sides[i] + offset - value) < 1e-9))
      return { factor, of: [name], offset };
  }
  throw new Error(`internal: sizes ${values} do not follow from those of the input`);
}

export const isSymbolic = (dim: Dim): dim is SymbolicSize => typeof dim !== 'number';

export function sameDim(a: Dim, b: Dim | undefined): boolean {
  if (b === undefined || !isSymbolic(a) || !isSymbolic(b)) return a === b;
  return a.factor === b.factor && a.offset === b.offset && String(a.of) === String(b.of);
}

export function sameShape(a: readonly Dim[], b: readonly Dim[]): boolean {
  return a.length === b.length && a.every((dim, i) => sameDim(dim, b[i]));
}

/** The product of sizes, each of which has other names and no offset. */
export function productOf(dims: readonly Dim[]): Dim {
  const symbolic = dims.filter(isSymbolic);
  if (symbolic.some(({ offset }) => offset !== 0))
    throw new Error('internal: a product of sides with margins');
  const factor = dims.reduce<number>((product, dim) => product * (isSymbolic(dim) ? dim.factor : dim), 1);
  if (!symbolic.length) return factor;
  return { factor, of: SIZE_NAMES.filter((name) => symbolic.some(({ of }) => of.includes(name))), offset: 0 };
}
