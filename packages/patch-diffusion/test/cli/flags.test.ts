import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { addFields, addOfficial, addSwitch, isOn, normaliseArgs } from '../../src/cli/flags.js';
import { bar, tickLine } from '../../src/cli/progress.js';
import { formatBytes, formatSec } from '../../src/cli/terminal.js';
import { generateFields } from '../../src/config/generate-options.js';
import { officialTrainOptions } from '../../src/config/official.js';
import { trainFields } from '../../src/config/train-options.js';

function trainCommand(): Command {
  const command = new Command('train').exitOverride().configureOutput({ outputError: () => {} });
  addSwitch(command, '-n, --dry-run', '');
  addFields(command, trainFields, {});
  addOfficial(command, officialTrainOptions);
  return command;
}

/** What commander makes of these arguments after they have been spelt out. */
function parse(line: string): Record<string, unknown> {
  const command = trainCommand();
  command.parse(normaliseArgs(command, line.split(' ')), { from: 'user' });
  return command.opts();
}

describe('spellings of flags', () => {
  it.each([
    ['--real_p 0.5', { realP: '0.5' }],
    ['--real_p=0.5', { realP: '0.5' }],
    ['--realP 0.5', { realP: '0.5' }],
    ['--xflip', { xflip: 'true' }],
    ['--xflip=1', { xflip: '1' }],
    ['--xflip 0 --lr 1', { xflip: '0', lr: '1' }],
    ['--no-xflip', { xflip: 'false' }],
    ['--cond auto', { cond: 'auto' }],
    ['--xflip --cond', { xflip: 'true', cond: 'true' }],
    ['-n --data x', { dryRun: 'true', data: 'x' }],
    ['--dry-run=0', { dryRun: '0' }],
    ['--train_on_latents=0', { trainOnLatents: '0' }],
    ['--batch-gpu 8 --batch_size 16', { batchGpu: '8', batchSize: '16' }],
    ['--resume', { resume: true }],
    ['--resume --lr 1', { resume: true, lr: '1' }],
    ['--resume runs/0', { resume: 'runs/0' }],
    ['--lr -1', { lr: '-1' }],
  ])('%s', (line, expected) => {
    expect(parse(line)).toEqual(expected);
  });

  it('leaves what it does not know to commander', () => {
    expect(() => parse('--wat 3')).toThrow('--wat');
    expect(() => parse('--no-data')).toThrow('--no-data');
  });

  it('takes negative numbers and S_ names of the generator', () => {
    const command = new Command('generate').exitOverride();
    addFields(command, generateFields, {});
    command.parse(normaliseArgs(command, ['--x_start', '-16', '--S_churn', '40']), { from: 'user' });
    expect(command.opts()).toEqual({ xStart: '-16', sChurn: '40' });
  });

  it('knows when a switch is on', () => {
    expect([true, 'true', '1', 'Yes'].map(isOn)).toEqual([true, true, true, true]);
    expect([undefined, false, '0', 'no'].map(isOn)).toEqual([false, false, false, false]);
  });
});

describe('progress', () => {
  it('formats times as the official trainer does', () => {
    const times = [12, 185, 7384, 93_780, Number.POSITIVE_INFINITY].map(formatSec);
    expect(times).toEqual(['12s', '3m 05s', '2h 03m 04s', '1d 02h 03m', '–']);
  });

  it('formats sizes', () => {
    expect([0, 1023, 1536, 5 * 2 ** 30, 200 * 2 ** 20].map(formatBytes)).toEqual([
      '0 B',
      '1023 B',
      '1.5 KiB',
      '5.0 GiB',
      '200 MiB',
    ]);
  });

  it('draws a bar that stays within its width', () => {
    expect([-1, 0, 0.5, 1, 2].map((share) => bar(share, 4))).toEqual([
      '░░░░',
      '░░░░',
      '██░░',
      '████',
      '████',
    ]);
  });

  it('says all of a tick on one line', () => {
    const line = tickLine({
      type: 'tick',
      step: 10,
      nimg: 2000,
      kimg: 2,
      totalNimg: 4000,
      tick: 1,
      loss: 0.5,
      lossPerPatch: { 16: 0.25, 64: 0.75 },
      heldOutLoss: 0.6,
      lr: 1e-3,
      imagesPerSec: 123.45,
      totalSec: 61,
      secPerTick: 30,
      secPerKimg: 15,
      maintenanceSec: 1,
      etaSec: 60,
      rssBytes: 2 ** 30,
      nonFiniteGrads: 2,
    });
    expect(line).toBe(
      'tick 1      kimg 2.0        loss 0.5000 (p16 0.2500, p64 0.7500)  held out 0.6000  123.5 images/s  time 1m 01s  ' +
        'left 1m 00s  memory 1.0 GiB  2 updates with non-finite gradients',
    );
  });
});
