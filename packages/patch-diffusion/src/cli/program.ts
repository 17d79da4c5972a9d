/**
 * The command table. Only the command that runs is loaded, so that `--help` and mistakes answer at once;
 * nothing here may import tensors, images or schemas.
 */

import { Command, type OutputConfiguration } from 'commander';
import { programName } from '../common/program-name.js';
import { print } from './terminal.js';

/** A command's module: adds the command to the program. */
interface CommandModule {
  register(program: Command): void;
}

interface CommandEntry {
  readonly name: string;
  readonly summary: string;
  readonly load: () => Promise<CommandModule>;
}

export const commands: readonly CommandEntry[] = [
  {
    name: 'prepare',
    summary: 'Turn a folder of photos into training images of one size',
    load: () => import('./commands/prepare.js'),
  },
  {
    name: 'avatars',
    summary: 'Draw faces to train on or to measure with',
    load: () => import('./commands/avatars.js'),
  },
  { name: 'train', summary: 'Train a model on your images', load: () => import('./commands/train.js') },
  {
    name: 'generate',
    summary: 'Draw images from a trained model',
    load: () => import('./commands/generate.js'),
  },
  {
    name: 'evaluate',
    summary: 'Measure how good a model or a folder of images is',
    load: () => import('./commands/evaluate.js'),
  },
  {
    name: 'stats',
    summary: 'Write reference statistics of images for FID',
    load: () => import('./commands/stats.js'),
  },
  {
    name: 'ema',
    summary: 'Choose the span of weight averaging after training',
    load: () => import('./commands/ema.js'),
  },
  {
    name: 'import',
    summary: 'Convert a checkpoint of the official programs',
    load: () => import('./commands/import.js'),
  },
  {
    name: 'export',
    summary: 'Write the weights for other programs',
    load: () => import('./commands/export.js'),
  },
  {
    name: 'info',
    summary: 'Say what a run folder, snapshot or data set is',
    load: () => import('./commands/info.js'),
  },
  {
    name: 'studio',
    summary: 'Show runs in the browser while they train',
    load: () => import('./commands/studio.js'),
  },
  {
    name: 'demo',
    summary: 'Train a tiny model for a few minutes and show what it learnt',
    load: () => import('./commands/demo.js'),
  },
  {
    name: 'setup',
    summary: 'Find or fetch libtorch and build the native part',
    load: () => import('./commands/setup.js'),
  },
  {
    name: 'doctor',
    summary: 'Check this machine and say what is missing',
    load: () => import('./commands/doctor.js'),
  },
];

const EXAMPLES = `
Examples:
  $ patch-diffusion demo
  $ patch-diffusion prepare ./photos --out photos-64.zip --resolution 64
  $ patch-diffusion train --data photos-64.zip --preset small --out runs
  $ patch-diffusion generate --run runs/00000-photos-64 --count 64 --grid sheet.png

Every command has its own help:
  $ patch-diffusion train --help`;

/**
 * Builds the program.
 *
 * @param wanted name of the command to load; `'all'` loads every one (for the documentation); others are listed
 *   by name and summary only
 */
export async function createProgram(wanted: string | undefined, version: string): Promise<Command> {
  const program = new Command('patch-diffusion');
  const output: OutputConfiguration = {
    // Messages are written by main(), so that one place words them.
    outputError: () => {},
    // The pages say `$ patch-diffusion …`; what is copied from a terminal should run as it stands there.
    writeOut: (text) =>
      print(text.replace(/^( +\$) patch-diffusion\b/gm, `$1 ${programName()}`).replace(/\n$/, '')),
  };
  program
    .description('Train diffusion models on patches of your images, and sample them (arXiv 2304.12526).')
    .version(version, '-V, --version', 'Print the version')
    .helpOption('-h, --help', 'Show this help')
    .helpCommand(false)
    .exitOverride()
    .configureOutput(output)
    .showSuggestionAfterError(false)
    .addHelpText('after', EXAMPLES);
  for (const { name, summary, load } of commands) {
    if (wanted !== 'all' && name !== wanted) {
      program.command(name).description(summary);
      continue;
    }
    (await load()).register(program);
    const command = program.commands.find((c) => c.name() === name);
    if (command === undefined) throw new Error(`internal: command ${name} did not register itself`);
    if (command.description() === '') command.description(summary);
    if (command.summary() === '') command.summary(summary);
    command.helpOption('-h, --help', 'Show this help');
    if (!command.options.some((o) => o.long === '--verbose')) {
      command.option('--verbose', 'Show stack traces of errors');
    }
    command.configureOutput(output).exitOverride();
  }
  return program;
}
