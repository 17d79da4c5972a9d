/**
 * `patch-diffusion demo`: trains a tiny model for a few minutes and puts what it learnt on one sheet: real images,
 * what the ready-made networks draw, then samples as it learns.
 */

import type { Command } from 'commander';
import { guarded } from '../../common/file-error.js';
import { programName } from '../../common/program-name.js';
import * as f from '../../config/fields.js';
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
/** Rows of samples on it: one a minute, in a long run fewer. */
const MOST_ROWS = 6;

/** What pays in a run of minutes: the learning rate falls for half of it, and the average is short. */
const FOR_MINUTES = { lrCooldown: 0.5, emaHalflifeKimg: 10 } as const;

/** The demo's own images. */
const FACES = { style: 'pixel-art-simple', count: 3000 } as const;

const fields = {
  minutes: f.number('Training time', { unit: 'minutes', above: 0, max: 100_000, default: 3 }),
  data: f.path('Folder or zip of images; avatars: faces that the demo draws itself', { nullWord: 'avatars' }),
  out: f.path('Folder for everything the demo writes', { default: 'demo' }),
  device: f.device(),
  seed: f.int('Random seed', { min: 0, max: 2 ** 31 - 1, default: 0 }),
};

export function register(program: Command): void {
  const command = program
    .command('demo')
    .description(
      'Train the preset "tiny" for a few minutes and write one sheet of its samples as it learns.',
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
  const data = own.data ?? (await demoSet(join(out, 'avatars.zip')));
  const options = await resolveRunOptions({
    call: {
      preset: 'tiny',
      ...{ data, out, device, seed },
      ...{
        maxSec: minutes * 60,
        sampleSec: Math.max(60, (minutes * 60) / MOST_ROWS),
        sampleTicks: null,
        samples: ROW,
        durationKimg: 100_000,
      },
      ...FOR_MINUTES,
    },
  });

  const { train } = await import('../../training/loop.js');
  const view = new TrainProgressView();
  const { readyMadeRows, realRow } = await import('../demo-rows.js');
  const rows: SheetRow[] = [await realRow(options, ROW)];
  if (own.data === null) rows.push(...(await readyMadeRows(ROW, device)));
  const before = rows.length;
  const onEvent = (event: TrainEvent): void => {
    // The demo trains without classes.
    if (event.type === 'warning' && event.code === 'LABELS_NOT_USED') return;
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
      note(`Watch it in the browser, from another terminal: ${programName()} studio ${out}`);
      return train(options, { signal, onEvent });
    },
  ).finally(() => view.close());

  const last = rows.at(-1);
  if (last !== undefined && rows.length > before && !result.interrupted)
    rows[rows.length - 1] = { ...last, label: `final ${last.label}` };
  const sheet = join(out, 'demo.png');
  const [{ labelledSheetPng }, { writeFileAtomic }] = await Promise.all([
    import('../../data/sheet.js'),
    import('@patch-diffusion/torch/atomic-file'),
  ]);
  await writeFileAtomic(sheet, await labelledSheetPng(rows.map((row) => ({ ...row, scale: scaleFor(row) }))));
  print(sheet);
  const program = programName();
  const resume = `${program} train --resume ${result.runDir} --max-sec 600`;
  if (result.interrupted) {
    note(`interrupted; state saved, and the sheet of what there was. Continue with: ${resume}`);
    throw new Exit(INTERRUPTED);
  }
  note(`
Look at ${sheet}: real images in the first row, then what the model drew as it learnt.${
    own.data === null
      ? `
The rows below the first are of networks that come along; more of them: ${program} generate --network avatars-32`
      : ''
  }
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
  const { resolveAvatarOptions } = await import('../../config/avatar-options.js');
  const { writeAvatars } = await import('../../prepare/avatars.js');
  await withLine((line) =>
    writeAvatars(resolveAvatarOptions({ call: { out: file, ...FACES } }), {
      onProgress: (done, total) => line.set(countLine('drawing faces to train on', done, total)),
    }),
  );
  return file;
}

/** Small images are enlarged more. */
const scaleFor = ({ shape }: SheetRow): number => Math.max(2, Math.floor(64 / shape[2]));
