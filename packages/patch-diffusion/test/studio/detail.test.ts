/** The command that repeats a run gives its options again. */
import { describe, expect, it } from 'vitest';
import { normaliseArgs } from '../../src/cli/flags.js';
import { createProgram } from '../../src/cli/program.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { optionValues, repeatCommand } from '../../src/studio/detail.js';

/** The arguments of a command as a shell makes them. */
function argumentsOf(command: string): string[] {
  const words = command.slice(command.indexOf(' train ') + 7).match(/'(?:[^']|'\\'')*'|\S+/g) ?? [];
  return words.map((word) => (word.startsWith("'") ? word.slice(1, -1).replaceAll("'\\''", "'") : word));
}

async function optionsOf(command: string) {
  const program = await createProgram('train', '');
  const train = program.commands.find((one) => one.name() === 'train')!;
  let flags = {};
  train.action((given: Record<string, unknown>) => {
    flags = given;
  });
  await program.parseAsync(['train', ...normaliseArgs(train, argumentsOf(command))], { from: 'user' });
  return resolveTrainOptions({ flags });
}

const runs: [string, TrainOptionsInput][] = [
  ['a preset as it is', { preset: 'tiny' }],
  ['names with blanks and quotes', { preset: 'small', data: "my brother's photos/2026" }],
  ['two sides', { preset: 'tiny', resolution: { width: 96, height: 64 } }],
  [
    'patch sides',
    {
      preset: 'tiny',
      patchSizes: [
        { sidePx: 16, probability: 0.25 },
        { sidePx: 32, probability: 0.75 },
      ],
    },
  ],
  ['lists', { preset: 'tiny', channelMult: [1, 2, 2], attnResolutions: [], betas: [0.9, 0.99] }],
  ['switches off and on', { preset: 'tiny', xflip: true, cond: 'auto', strict: true }],
  ['nothing where the preset has a number', { preset: 'celeba-64', batchGpu: null, stateTicks: null }],
  ['words for numbers', { preset: 'small', lossScaling: 'dynamic', precond: 'edm' }],
];

describe('repeatCommand', () => {
  it.each(runs)('%s', async (_, given) => {
    const options = resolveTrainOptions({ call: { data: 'photos.zip', seed: 5, ...given } });
    expect(await optionsOf(repeatCommand(options))).toEqual(options);
  });

  it('names data, preset, seed and what differs, no more', () => {
    const options = resolveTrainOptions({
      call: { data: 'a.zip', preset: 'tiny', seed: 5, lr: 0.002, out: 'elsewhere' },
    });
    expect(repeatCommand(options)).toMatch(/train --data a\.zip --preset tiny --lr 0\.002 --seed 5$/);
  });
});

describe('optionValues', () => {
  it('shows options that this version does not know, and none that the run lacks', () => {
    const values = optionValues({ data: 'a.zip', preset: 'tiny', lr: 1, shiny: [1] });
    expect(values.map(({ name, value }) => `${name} ${value}`)).toEqual([
      'data a.zip',
      'preset tiny',
      'lr 1',
      'shiny [1]',
    ]);
  });
});
