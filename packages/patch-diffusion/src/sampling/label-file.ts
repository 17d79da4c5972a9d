/** `labels.json` in a folder of generated images: the seed and the label of each of them. */
import { readFile } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { z } from 'zod';
import { UserError } from '../common/errors.js';
import { guarded } from '../common/file-error.js';
import type { LabelRecord } from '../data/sample-labels.js';

const NAME = 'labels.json';

const schema = z.object({ images: z.array(z.looseObject({ file: z.string(), seed: z.number() })) });

type Entry = z.infer<typeof schema>['images'][number];

/** A generated image. */
interface LabelledImage {
  readonly file: string;
  readonly seed: number;
  readonly label: LabelRecord | null;
}

/** Entries for images of earlier calls. @throws UserError when the file is something else */
export async function readLabelFile(folder: string): Promise<Entry[]> {
  const file = join(folder, NAME);
  const text = await readFile(file, 'utf8').catch(() => null);
  if (text === null) return [];
  try {
    return schema.parse(JSON.parse(text)).images;
  } catch (cause) {
    throw new UserError(
      'BAD_LABEL_FILE',
      `${file} is not a list of generated images; move it away, or choose another --out`,
      { cause },
    );
  }
}

/**
 * Records images, in place of those that had their names before.
 * @returns the file; none is written where no image has a label
 */
export async function recordLabels(
  folder: string,
  images: readonly LabelledImage[],
): Promise<string | undefined> {
  const before = await readLabelFile(folder);
  if (!before.length && images.every(({ label }) => label === null)) return undefined;
  const entries = new Map(before.map((entry) => [entry.file, entry]));
  for (const { file, seed, label } of images) {
    const name = relative(folder, file).split(sep).join('/');
    if (label === null) entries.delete(name);
    else entries.set(name, { file: name, seed, ...label });
  }
  const lines = [...entries.values()]
    .sort((a, b) => (a.file < b.file ? -1 : 1))
    .map((entry) => JSON.stringify(entry));
  const target = join(folder, NAME);
  await guarded(`write ${target}`, () =>
    writeFileAtomic(target, Buffer.from(`{"images": [\n${lines.join(',\n')}\n]}\n`)),
  );
  return target;
}
