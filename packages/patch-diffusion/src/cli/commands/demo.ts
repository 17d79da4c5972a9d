/**
 * `patch-diffusion demo`: trains a tiny model for a few minutes and puts what it learnt on one sheet: real images,
 * samples after each minute, final samples.
 */

import type { Command } from 'commander';
import { guarded } from '../../common/file-error.js';
import { programName } from '../../common/program-name.js';
import * as f from '../../config/fields.js';
import type { TrainOptions } from '../../config/train-options.js';
import type { SheetRow } from '../../data/sheet.js';
import type { TrainEvent } from '../../training/events.js';
import { addFields, readFlags } from '../flags.js';
import { Exit, INTERRUPTED, interruptible } from '../interrupt.js';
import { countLine, TrainProgressView } from '../progress.js';
import { formatSec, note, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion demo
  $ patch-diffusion demo --minutes 10
  $ patch-diffusion demo --data ./photos --out my-demo`;

/** Images per row of the sheet. */
const ROW = 16;

const fields = {
  minutes: f.number('Training time', { unit: 'minutes', above: 0, max: 100_000, default: 3 }),
  data: f.path('Folder or zip of images; icons: drawn by the demo itself', { nullWord: 'icons' }),
  out: f.path('Folder for everything the demo writes', { default: 'demo' }),
  device: f.device(),
  seed: f.int('Random seed', { min: 0, max: 2 ** 31 - 1, default: 0 }),
};

export function register(program: Command): void {
  const command = program
    .command('demo')
    .description(
      'Train the preset "tiny" for a few minutes and write one sheet of its samples minute by minute.',
    );
  addFields(command, fields);
  command.addHelpText('after', HELP).action(runDemo);
}

async function runDemo(given: Record<string, unknown>): Promise<void> {
  const { minutes, out, device, seed, ...own } = readFlags(fields, given);
  const [{ join }, { makeFolder }, { resolveRunOptions }] = await Promise.all([
    import('node:path'),
    import('@patch-diffusion/torch/make-folder'),
    import('../../training/resume.js'),
  ]);
  await guarded(`write to ${out}`, async () => makeFolder(out));
  const data = own.data ?? (await demoSet(join(out, 'images.zip')));
  const options = await resolveRunOptions({
    call: {
      preset: 'tiny',
      ...{ data, out, device, seed },
      ...{ maxSec: minutes * 60, sampleSec: 60, sampleTicks: null, samples: ROW, durationKimg: 100_000 },
    },
  });

  const { train } = await import('../../training/loop.js');
  const view = new TrainProgressView();
  const rows: SheetRow[] = [await realImages(options)];
  const onEvent = (event: TrainEvent): void => {
    view.onEvent(event);
    if (event.type !== 'samples') return;
    const label = `samples after ${event.kimg.toFixed(1)} kimg, ${formatSec((Date.now() - startedAt) / 1000)}`;
    rows.push({ label, pixels: event.pixels, shape: event.shape });
  };
  const startedAt = Date.now();
  const result = await interruptible(
    () => (view.hasStarted ? 'saving the training state' : null),
    (text) => view.note(text),
    (signal) => {
      note(`Training the preset "tiny" for ${formatSec(minutes * 60)} on ${data}; Ctrl-C stops and saves.`);
      return train(options, { signal, onEvent });
    },
  ).finally(() => view.close());

  const last = rows.at(-1);
  if (last !== undefined && rows.length > 1 && !result.interrupted)
    rows[rows.length - 1] = { ...last, label: `final ${last.label}` };
  const sheet = join(out, 'demo.png');
  const [{ labelledSheetPng }, { writeFileAtomic }] = await Promise.all([
    import('../../data/sheet.js'),
    import('@patch-diffusion/torch/atomic-file'),
  ]);
  await writeFileAtomic(sheet, await labelledSheetPng(rows));
  print(sheet);
  const program = programName();
  const resume = `${program} train --resume ${result.runDir} --max-sec 600`;
  if (result.interrupted) {
    note(`interrupted; state saved, and the sheet of what there was. Continue with: ${resume}`);
    throw new Exit(INTERRUPTED);
  }
  note(`
Look at ${sheet}: real images in the first row, then what the model drew as it learnt.
Longer training gives better images. With your own:
  ${program} prepare ./photos --out photos-64.zip --resolution 64
  ${program} train --data photos-64.zip --preset small
Continue this run with:
  ${resume}`);
}

/** The demo's own images, drawn once. */
async function demoSet(file: string): Promise<string> {
  const { access } = await import('node:fs/promises');
  const isThere = await access(file).then(
    () => true,
    () => false,
  );
  if (isThere) return file;
  const { renderDemoSet } = await import('../../prepare/demo-images.js');
  await withLine((line) =>
    renderDemoSet(file, {
      onProgress: (done, total) => line.set(countLine('drawing images to train on', done, total)),
    }),
  );
  return file;
}

/** The first row of the sheet. */
async function realImages(options: TrainOptions): Promise<SheetRow> {
  const { openImages } = await import('../../data/open-images.js');
  const images = await openImages(options.data, {
    resolution: options.resolution ?? undefined,
    maxImages: ROW,
    seed: options.seed,
  });
  try {
    const { length, channels, height, width } = images;
    const indices = Array.from({ length }, (_, i) => i);
    const zeros = indices.map(() => 0);
    await images.ready(indices);
    const pixels = images.gather(indices, { size: { height, width }, rows: zeros, cols: zeros });
    return { label: 'real images', pixels, shape: [length, channels, height, width] };
  } finally {
    await images.close();
  }
}
