/** `patch-diffusion avatars`: faces to train on and to measure with, drawn from seeds. */

import type { Command } from 'commander';
import { programName } from '../../common/program-name.js';
import { avatarFields, resolveAvatarOptions } from '../../config/avatar-options.js';
import { addFields } from '../flags.js';
import { interruptible } from '../interrupt.js';
import { countLine } from '../progress.js';
import { formatBytes, formatCount, note, print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion avatars --out avatars.zip
  $ patch-diffusion avatars --out held-out.zip --held-out --count 1000
  $ patch-diffusion avatars --out peeps.zip --style open-peeps --count 20000 --labels

The same seed is the same face everywhere. docs/models.md has models that were trained on such sets.`;

export function register(program: Command): void {
  const command = program
    .command('avatars')
    .description(
      'Draw faces from seeds, as many as you like, into a zip or folder to train on or to measure with.',
    );
  addFields(command, avatarFields);
  command.addHelpText('after', HELP).action(runAvatars);
}

async function runAvatars(given: Record<string, unknown>): Promise<void> {
  const options = resolveAvatarOptions({ flags: given });
  const { writeAvatars } = await import('../../prepare/avatars.js');
  const report = await withLine((line) =>
    interruptible(
      () => 'removing the unfinished result',
      (text) => line.note(text),
      (signal) =>
        writeAvatars(options, {
          signal,
          onProgress: (done, total) => line.set(countLine('drawing faces', done, total)),
        }),
    ),
  );
  const { out, count, sidePx, firstSeed, lastSeed, classNames, bytes } = report;
  const labels = classNames === null ? 'no labels' : `classes ${classNames.join(', ')}`;
  const seeds = `seeds ${firstSeed} to ${lastSeed}`;
  print(
    `${out}: ${formatCount(count)} faces, ${sidePx}×${sidePx} px, ${seeds}, ${labels}, ${formatBytes(bytes)}`,
  );
  note(`Train on them with: ${programName()} train --data ${out} --preset tiny`);
}
