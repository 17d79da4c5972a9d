/** Which labels images are generated with: those of the training images, or the one that the user names. */
import { nearest, usageError } from '../common/errors.js';
import type { GenerateOptions } from '../config/generate-options.js';
import type { Label } from '../diffusion/labels.js';
import type { DatasetRecord } from '../run/snapshot-info.js';

/**
 * @param labelDim of the network
 * @returns labels to draw from; null for all classes, and for networks without
 * @throws UserError (exit code 2) when the network does not know the class or label
 */
export function chooseLabels(
  given: Pick<GenerateOptions, 'class' | 'label'>,
  labelDim: number,
  dataset: DatasetRecord,
): readonly Label[] | null {
  const { class: wanted, label } = given;
  if (wanted === null && label === null) return dataset.labels ?? null;
  const option = label === null ? `--class ${wanted}` : `--label ${label.join(',')}`;
  if (!labelDim) {
    throw usageError(
      'NO_CLASSES',
      `${option}: this network was trained without class labels; leave the option out`,
    );
  }
  if (label === null) return [findClass(wanted!, labelDim, dataset)];
  if (label.length === labelDim) return [label];
  const vector = dataset.labels?.find((one) => typeof one !== 'number');
  const example = vector ? `, such as ${vector.join(',')}` : '';
  throw usageError('BAD_LABEL', `${option}: a label of this network has ${labelDim} numbers${example}`);
}

/** What a user should know of a class that is given by number: whether it is also the name of another one. */
export function classWarning(wanted: GenerateOptions['class'], { classNames }: DatasetRecord): string | null {
  if (typeof wanted !== 'number' || wanted >= (classNames?.length ?? 0)) return null;
  const named = classNames!.indexOf(String(wanted));
  if (named < 0 || named === wanted) return null;
  return `--class ${wanted} is class number ${wanted}, called "${classNames![wanted]}"; the class called "${wanted}" is number ${named}`;
}

function findClass(wanted: number | string, labelDim: number, { classNames, labels }: DatasetRecord): number {
  const [example] = labels ?? [];
  if (typeof example === 'object') {
    throw usageError(
      'BAD_CLASS',
      `--class ${wanted}: this network was trained with label vectors, not with classes; give one with --label, such as --label ${example.join(',')}`,
    );
  }
  const known = (labels as readonly number[] | null | undefined) ?? null;
  const exists = (index: number) => index >= 0 && index < labelDim && (known?.includes(index) ?? true);
  if (typeof wanted === 'number' && exists(wanted)) return wanted;
  // Names may be numbers, too.
  const named = classNames?.indexOf(String(wanted)) ?? -1;
  if (exists(named)) return named;
  throw usageError('BAD_CLASS', `--class ${wanted}: ${whatExists(wanted, labelDim, known, classNames)}`);
}

/** Classes that a message lists; the rest is counted. */
const LISTED = 20;

function whatExists(
  wanted: number | string,
  labelDim: number,
  known: readonly number[] | null,
  classNames: readonly string[] | null,
): string {
  if (known === null && classNames === null) return `this network has classes 0 to ${labelDim - 1}`;
  const all = known ?? Array.from({ length: labelDim }, (_, index) => index);
  const shown = all.slice(0, LISTED).map((index) => {
    const name = classNames?.[index];
    return name === undefined ? String(index) : `${index} (${name})`;
  });
  const more = all.length - shown.length;
  const list = shown.join(', ') + (more > 0 ? `, and ${more} more` : '');
  const near = typeof wanted === 'string' && classNames ? nearest(wanted, classNames) : undefined;
  const hint = near === undefined ? '' : `; did you mean ${near}?`;
  return `this network was trained on images of class${all.length > 1 ? 'es' : ''} ${list}${hint}`;
}
