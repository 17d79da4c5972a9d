/** `patch-diffusion setup`: finds or gets libtorch and builds the native addon, once after an installation. */
import type { Command } from 'commander';
import * as f from '../../config/fields.js';
import { addFields, readFlags } from '../flags.js';
import { note, print } from '../terminal.js';

const fields = {
  fetch: f.boolean('Download the newest libtorch into .libtorch/ even where the system or python3 has one', {
    default: false,
  }),
};

/** Adds the command to the program. */
export function register(program: Command): void {
  const command = program
    .command('setup')
    .description('Find or download libtorch and build the native addon (once; quick when all is there)');
  addFields(command, fields);
  command
    .addHelpText(
      'after',
      `
libtorch is looked for in this order:
  LIBTORCH=/path           a folder with include/ and lib/
  LIBTORCH_USE_PYTORCH=1   the torch of python3
  the active virtual or conda environment's torch
  .libtorch/ beside node_modules, then the user's cache
  the torch of python3 in PATH
  the system's (Debian: libtorch-dev, Homebrew: pytorch, a Python torch below /usr)
Where there is none, a torch wheel is downloaded through pip into .libtorch/.`,
    )
    .action(async (given: Record<string, unknown>) => {
      const { fetch } = readFlags(fields, given);
      const { setup } = await import('@patch-diffusion/torch/setup');
      const { addon, libtorch } = await setup({ log: note, fetch });
      print(`Ready: libtorch ${libtorch.version} (${libtorch.origin}: ${libtorch.root})`);
      print(`Addon: ${addon}`);
    });
}
