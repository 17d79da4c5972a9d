/**
 * `patch-diffusion demo`: trains a tiny model for a few minutes and puts what it learnt on one sheet: real images,
 * samples after each minute, final samples.
 */

import type { Command } from 'commander';
import type { TrainOptions } from '../../config/train-options.js';
import type { TrainEvent } from '../../training/events.js';
import type { SheetRow } from '../../training/sheet.js';
import { interruptible } from '../interrupt.js';
import { countLine, LiveLine, TrainProgressView } from '../progress.js';
import { formatSec, note, print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion demo
  $ patch-diffusion demo --minutes 10
  $ patch-diffusion demo --data ./photos --out my-demo`;

/** Images per row of the sheet. */
const ROW = 16;

export function register(program: Command): void {
  program
    .command('demo')
    .summary('Train a tiny model for a few minutes and show what it learnt')
    .description(
      'Train the preset "tiny" for a few minutes and write one sheet of its samples minute by minute.',
    )
    .option('--minutes <n>', 'Training time, in minutes (number > 0; default: 3)')
    .option('--data <path>', 'Folder or zip of images (default: drawn by the demo itself)')
    .option('--out <path>', 'Folder for everything the demo writes (default: demo)')
    .option('--device <name>', 'auto, cpu, cuda, cuda:1 or mps (default: auto)')
    .option('--seed <n>', 'Random seed (integer ≥ 0; default: 0)')
    .addHelpText('after', HELP)
    .action(runDemo);
}

interface DemoFlags {
  readonly minutes?: string;
  readonly data?: string;
  readonly out?: string;
  readonly device?: string;
  readonly seed?: string;
}

async function runDemo(given: DemoFlags): Promise<void> {
  const [{ join }, { mkdir }, { readValues }, fields, { resolveRunOptions }] = await Promise.all([
    import('node:path'),
    import('node:fs/promises'),
    import('../../config/read-values.js'),
    import('../../config/fields.js'),
    import('../../training/run-options.js'),
  ]);
  const minutesField = fields.number('Training time', { group: '', unit: 'minutes', above: 0, max: 100_000 });
  const { minutes } = readValues(
    { minutes: minutesField },
    { minutes: given.minutes ?? '3' },
    { kind: 'flag' },
  ) as {
    minutes: number;
  };
  const out = given.out ?? 'demo';
  await mkdir(out, { recursive: true });
  const data = given.data ?? (await demoSet(join(out, 'images.zip')));
  const options = await resolveRunOptions({
    preset: 'tiny',
    call: { maxSec: minutes * 60, sampleSec: 60, sampleTicks: null, samples: ROW, durationKimg: 100_000 },
    flags: { data, out, device: given.device ?? 'auto', seed: given.seed ?? '0' },
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
  note(`Training the preset "tiny" for ${formatSec(minutes * 60)} on ${data}; Ctrl-C stops and saves.`);
  const startedAt = Date.now();
  const result = await interruptible(
    'saving the training state',
    (text) => view.print(text),
    (signal) => train(options, { signal, onEvent }),
  ).finally(() => view.close());

  const sheet = join(out, 'demo.png');
  const { labelledSheetPng } = await import('../../training/sheet.js');
  const { writeFileAtomic } = await import('@patch-diffusion/torch/atomic-file');
  const last = rows.at(-1);
  if (last !== undefined && rows.length > 1)
    rows[rows.length - 1] = { ...last, label: `final ${last.label}` };
  await writeFileAtomic(sheet, await labelledSheetPng(rows));
  print(sheet);
  note(`
Look at ${sheet}: real images in the first row, then what the model drew as it learnt.
Longer training gives better images. With your own:
  npx patch-diffusion prepare ./photos --out photos-64.zip --resolution 64
  npx patch-diffusion train --data photos-64.zip --preset small
This run goes on with:
  npx patch-diffusion train --resume ${result.runDir} --max-sec 600`);
}

/** The demo's own images, drawn once. */
async function demoSet(file: string): Promise<string> {
  const { access } = await import('node:fs/promises');
  const isThere = await access(file).then(
    () => true,
    () => false,
  );
  if (isThere) return file;
  const { renderDemoSet } = await import('../../data/demo-images.js');
  const line = new LiveLine();
  await renderDemoSet(file, {
    onProgress: (done, total) => line.set(countLine('drawing images to train on', done, total)),
  }).finally(() => line.clear());
  return file;
}

/** The first row of the sheet. */
async function realImages(options: TrainOptions): Promise<SheetRow> {
  const { openImages } = await import('../../data/open-images.js');
  const images = await openImages(options.data, {
    ...(options.resolution === null ? {} : { resolution: options.resolution }),
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
