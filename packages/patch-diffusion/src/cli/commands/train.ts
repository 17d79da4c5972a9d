/** `patch-diffusion train`: resolves the options, shows the run, saves its state when interrupted. */

import type { Command } from 'commander';
import { programName } from '../../common/program-name.js';
import { configSource } from '../../config/config-file.js';
import * as f from '../../config/fields.js';
import { officialTrainOptions, takeOfficialOptions } from '../../config/official.js';
import { presetNames, presets } from '../../config/presets.js';
import { DEFAULT_PRESET, type TrainOptions, trainFields } from '../../config/train-options.js';
import { extentName } from '../../patches/extent.js';
import { addFields, addOfficial, readFlags } from '../flags.js';
import { Exit, INTERRUPTED, interruptible } from '../interrupt.js';
import { TrainProgressView } from '../progress.js';
import { formatSec, note, print } from '../terminal.js';

const HELP = `
Presets:
${presetNames.map((name) => `  ${name.padEnd(Math.max(...presetNames.map((n) => n.length)) + 2)}${presets[name].summary}`).join('\n')}
  The defaults above are those of "${DEFAULT_PRESET}". A config file overrides the preset, flags override both.

Examples:
  $ patch-diffusion train --data photos-64.zip --preset small --out runs
  $ patch-diffusion train --data ./photos --preset tiny --max-sec 600
  $ patch-diffusion train --resume runs/00000-photos-64
  $ patch-diffusion train --data celeba-64.zip --preset celeba-64 --dry-run

Names and values of the official trainer work too: --outdir, --duration, --real_p, --cbase, --cres 1,2,2,2, …`;

const ownFields = {
  dryRun: f.boolean('Print what would be done, and stop', { short: 'n', default: false }),
};

export function register(program: Command): void {
  const command = program
    .command('train')
    .description(
      'Train a diffusion model on patches of your images. Writes a run folder with samples, snapshots ' +
        'and the complete state; Ctrl-C saves the state, --resume continues from it.',
    )
    .option('--config <file>', 'Options from a JSON or YAML file (or an earlier run.json)');
  addFields(command, ownFields);
  addFields(command, trainFields, presets[DEFAULT_PRESET].values);
  addOfficial(command, officialTrainOptions);
  command.addHelpText('after', HELP).action(runTrain);
}

async function runTrain(given: Record<string, unknown>): Promise<void> {
  const { config, dryRun: dryRunFlag, ...rest } = given;
  const { dryRun } = readFlags(ownFields, { dryRun: dryRunFlag });
  const { flags, notes } = takeOfficialOptions(rest, officialTrainOptions);
  for (const text of notes) note(`note: ${text}`);
  const { resolveRunOptions } = await import('../../training/resume.js');
  const options = await resolveRunOptions({ flags, file: await configSource(config) });
  if (dryRun) {
    const { describePlan } = await import('../plan.js');
    print(JSON.stringify(options, null, 2));
    print('');
    print(await describePlan(options));
    print('dry run: nothing was written');
    return;
  }
  const { train } = await import('../../training/loop.js');
  const view = new TrainProgressView();
  const startedAt = Date.now();
  try {
    const result = await interruptible(
      () => (view.hasStarted ? 'saving the training state' : null),
      (text) => view.note(text),
      (signal) => {
        note(summary(options));
        return train(options, { signal, onEvent: view.onEvent });
      },
    );
    view.close();
    const time = formatSec((Date.now() - startedAt) / 1000);
    if (result.interrupted) {
      note(
        `interrupted after ${time}; state saved. Continue with: ${programName()} train --resume ${result.runDir}`,
      );
      throw new Exit(INTERRUPTED);
    }
    note(
      `done in ${time}. Draw images with: ${programName()} generate --run ${result.runDir} --grid sheet.png`,
    );
    print(result.runDir);
  } finally {
    view.close();
  }
}

/** The options that decide what a run is, in a few lines. */
function summary(o: TrainOptions): string {
  const size = o.resolution === null ? '' : `, ${extentName(f.toExtent(o.resolution))} px`;
  const length = `${o.durationKimg} kimg${o.maxSec === null ? '' : `, at most ${formatSec(o.maxSec)}`}`;
  const precision = o.precision === 'fp32' ? '' : `, ${o.precision}`;
  const network = `${o.arch}, ${o.modelChannels} channels × ${o.channelMult.join(',')}, ${o.numBlocks} blocks${precision}`;
  return [
    `Training on  ${o.data}${size}, preset ${o.preset}, seed ${o.seed}`,
    `Network:     ${network}`,
    `Schedule:    ${length}, batch ${o.batch}, lr ${o.lr}, ${o.schedule} patches`,
  ].join('\n');
}
