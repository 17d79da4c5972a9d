/**
 * Class labels: from `dataset.json`, from the format's own labels, or from the names of the top folders.
 *
 * `dataset.json` is the reference's: `{"labels": [["00000/img00000000.png", 6], …]}` with a class index or a list of
 * numbers per image, or `{"labels": null}`. We also write, and read, the optional key `classes`: a name per class.
 */
import { UserError } from '../common/errors.js';
import type { Label } from '../diffusion/labels.js';
import { compareNames, PREPARED_NAME } from './names.js';
import type { LabelMode } from './types.js';

/** A `dataset.json` may have this many bytes: room for the labels of five million images. */
export const MAX_JSON_BYTES = 2 ** 28;
/** And this many lists and objects beside those of its images; each takes far more memory than its text. */
const MAX_SPARE_BRACKETS = 5_000_000;

/** A class index that is this large must be a likely one: see {@link makeTable}. */
const FEW_CLASSES = 1000;

/** Labels of all images of a source, by the image's index there. */
export interface LabelTable {
  readonly dim: number;
  readonly classNames: readonly string[] | null;
  readonly values: readonly Label[];
}

/** The parts of a source that decide labels. */
export interface LabelInput {
  readonly path: string;
  readonly names: readonly string[];
  readonly datasetJson: string | null;
  readonly classes: ArrayLike<number> | null;
}

/**
 * The labels of a source.
 *
 * Images without `dataset.json`, in a folder or a zip, are labelled by their top folders if there are several; with `auto`, only if no image
 * lies outside of them (else a folder of photos with a stray sub-folder would become two classes).
 *
 * @returns null without labels
 * @throws UserError if `dataset.json` is malformed or leaves images out, or `mode` is true and there are no labels
 */
export function resolveLabels(source: LabelInput, mode: LabelMode = 'auto'): LabelTable | null {
  if (mode === false) return null;
  const table = labelsOf(source, mode);
  if (table === null && mode === true) {
    throw new UserError(
      'DATA_NO_LABELS',
      `${source.path} has no labels; put the images of each class into a folder of its own, or train without classes`,
    );
  }
  return table;
}

function labelsOf(source: LabelInput, mode: LabelMode): LabelTable | null {
  if (source.classes !== null) return makeTable(Array.from(source.classes), null);
  if (source.datasetJson !== null) return labelsFromJson(source, source.datasetJson);
  return labelsFromFolders(source.names, mode);
}

function labelsFromFolders(names: readonly string[], mode: LabelMode): LabelTable | null {
  // The folders of a prepared dataset are no classes.
  if (names.every((name) => PREPARED_NAME.test(name))) return null;
  const folders = names.map((name) => (name.includes('/') ? name.slice(0, name.indexOf('/')) : ''));
  const classNames = [...new Set(folders)].sort(compareNames);
  if (classNames.length < 2 || (mode === 'auto' && classNames.includes(''))) return null;
  const classOf = new Map(classNames.map((name, index) => [name, index]));
  return makeTable(
    folders.map((folder) => classOf.get(folder)!),
    classNames,
  );
}

function labelsFromJson(source: LabelInput, text: string): LabelTable | null {
  const parsed = parseDatasetJson(text, `dataset.json of ${source.path}`, source.names.length);
  if (parsed === null) return null;
  const { labels, classNames } = parsed;
  const values = source.names.map((name) => {
    // Names typed on one system and files made on another can differ in how they compose accents.
    const label = labels.get(name) ?? labels.get(name.normalize('NFC')) ?? labels.get(name.normalize('NFD'));
    if (label === undefined) {
      throw new UserError(
        'DATA_LABELS_INCOMPLETE',
        `dataset.json of ${source.path} has no label for ${name}; complete it, or train without classes`,
      );
    }
    return label;
  });
  return makeTable(values, classNames);
}

/**
 * Parses the text of a `dataset.json`.
 * @param where how to call it in errors
 * @param images how many images it is for
 * @returns null when it says that there are no labels
 * @throws UserError naming the first entry that is wrong
 */
export function parseDatasetJson(
  text: string,
  where: string,
  images: number,
): { labels: Map<string, Label>; classNames: string[] | null } | null {
  const remedy = 'fix it, or train without classes';
  checkSize(text, where, images);
  let root: unknown;
  try {
    root = JSON.parse(text.replace(/^\uFEFF/, '')); // editors on Windows like to begin with this mark
  } catch (error) {
    throw new UserError(
      'DATA_LABELS',
      `${where} is not valid JSON (${(error as Error).message}); ${remedy}`,
      {
        cause: error,
      },
    );
  }
  const { labels: list, classes } = (root ?? {}) as { labels?: unknown; classes?: unknown };
  if (list === undefined || list === null) return null;
  if (!Array.isArray(list))
    throw new UserError('DATA_LABELS', `"labels" in ${where} is not a list; ${remedy}`);
  const labels = new Map<string, Label>();
  let vectorLength: number | undefined;
  for (const [i, item] of list.entries()) {
    const [name, label] = Array.isArray(item) ? (item as unknown[]) : [];
    const isClass = typeof label === 'number' && Number.isInteger(label) && label >= 0;
    const isVector = Array.isArray(label) && label.length > 0 && label.every(Number.isFinite);
    if (typeof name !== 'string' || !(isClass || isVector)) {
      throw new UserError(
        'DATA_LABELS',
        `Entry ${i} of "labels" in ${where} is ${JSON.stringify(item)?.slice(0, 80)}, not [name, class or numbers]; ${remedy}`,
      );
    }
    const length = isVector ? label.length : 0;
    vectorLength ??= length;
    if (length !== vectorLength) {
      throw new UserError(
        'DATA_LABELS',
        `Entry ${i} of "labels" in ${where} (${name}) is of another form than the first; ${remedy}`,
      );
    }
    labels.set(name, label as Label);
  }
  const hasNames = Array.isArray(classes) && classes.every((name) => typeof name === 'string');
  return { labels, classNames: hasNames ? (classes as string[]) : null };
}

/** Refuses a text that would take gigabytes of memory once parsed. */
function checkSize(text: string, where: string, images: number): void {
  if (text.length <= MAX_SPARE_BRACKETS) return;
  let brackets = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text.charCodeAt(i);
    if (char === 0x5b || char === 0x7b) brackets++; // [ and {
  }
  if (text.length <= MAX_JSON_BYTES && brackets <= MAX_SPARE_BRACKETS + 3 * images) return;
  throw new UserError(
    'DATA_LABELS',
    `${where} is far too large for ${images} images; make it again, or remove it and train without classes`,
  );
}

function makeTable(values: Label[], classNames: readonly string[] | null): LabelTable | null {
  const first = values[0];
  if (first === undefined) return null;
  if (typeof first !== 'number') return { dim: first.length, classNames: null, values };
  let dim = 0;
  for (const value of values) dim = Math.max(dim, (value as number) + 1);
  // Every index up to the largest gets weights and can be sampled.
  const classes = new Set(values).size;
  if (dim > Math.max(FEW_CLASSES, 10 * classes, classNames?.length ?? 0)) {
    throw new UserError(
      'DATA_LABELS',
      `The images have ${classes} classes, but the largest class index is ${dim - 1}; number the classes from 0 upwards`,
    );
  }
  return { dim: Math.max(dim, classNames?.length ?? 0), classNames: fits(classNames, dim), values };
}

function fits(classNames: readonly string[] | null, dim: number): readonly string[] | null {
  return classNames !== null && classNames.length >= dim ? classNames : null;
}
