/** `patch-diffusion studio`: shows runs in the browser. */
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { UserError } from '../../common/errors.js';
import { followLauncher } from '../../common/launched.js';
import { programName } from '../../common/program-name.js';
import * as f from '../../config/fields.js';
import { addFields, readFlags } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { hasScreen, openBrowser } from '../open-browser.js';
import { note, print } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion studio
  $ patch-diffusion studio demo
  $ patch-diffusion studio runs/00000-photos-64 --port 8080
  $ patch-diffusion studio --allow-generate --allow-train
  $ patch-diffusion studio runs --host 0.0.0.0 --no-open

Only this machine can open the page, unless --host says otherwise; the link then has a token, without which
nothing is shown. To see the runs of a machine that you reach by ssh:
  $ ssh -L 7007:localhost:7007 machine`;

const fields = {
  port: f.int('Port to listen on; where it is taken, the next free one', {
    min: 0,
    max: 65_535,
    default: 7007,
  }),
  host: f.string('Address to listen on; 0.0.0.0: all of this machine', {
    placeholder: 'address',
    default: '127.0.0.1',
  }),
  allowGenerate: f.boolean('Let the page draw images from snapshots; the link then has a token', {
    default: false,
  }),
  allowTrain: f.boolean('Let the page start, stop and resume trainings; the link then has a token', {
    default: false,
  }),
  open: f.boolean('Open the browser', { default: true }),
};

export function register(program: Command): void {
  const command = program
    .command('studio')
    .description(
      'Show runs in the browser while they train: curves, samples, options; compare several. Ctrl-C ends it.',
    )
    .argument('[folder]', 'Folder of runs, or a run', 'runs');
  addFields(command, fields);
  command.addHelpText('after', HELP).action(runStudio);
}

async function runStudio(folder: string, given: Record<string, unknown>): Promise<void> {
  const { port, host, allowGenerate, allowTrain, open } = readFlags(fields, given);
  if (!(await stat(folder).catch(() => null))?.isDirectory())
    throw new UserError(
      'NO_RUNS',
      `${folder} is not a folder; name the one that holds your runs (--out of train): ${programName()} studio FOLDER`,
    );
  const { startStudio } = await import('../../studio/studio.js');
  const studio = await startStudio({ folder, host, port, allowGenerate, allowTrain });
  if (port !== 0 && studio.port !== port) note(`port ${port} is in use; using ${studio.port}`);
  print(studio.url);
  if (!followLauncher()) note('Ctrl-C ends it; trainings go on.');
  if (open && hasScreen()) openBrowser(studio.url);
  await interruptible(
    () => null,
    () => {},
    (signal) => new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve())),
  );
  await studio.close();
}
