import { Command } from 'commander';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { addFields, addOfficial, normaliseArgs, readFlags } from '../../src/cli/flags.js';
import { bar, shareLine, stepLine, TrainProgressView, tickLine } from '../../src/cli/progress.js';
import { formatBytes, formatSec, LiveLine } from '../../src/cli/terminal.js';
import * as f from '../../src/config/fields.js';
import { generateFields } from '../../src/config/generate-options.js';
import { officialTrainOptions } from '../../src/config/official.js';
import { trainFields } from '../../src/config/train-options.js';
import type { TrainEvent } from '../../src/training/events.js';

function trainCommand(): Command {
  const command = new Command('train').exitOverride().configureOutput({ outputError: () => {} });
  addFields(command, { dryRun: f.boolean('', { short: 'n' }) });
  addFields(command, trainFields);
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
    ['--no-train-on-latents', { trainOnLatents: 'false' }],
    ['--batch-gpu 8 --batch_size 16', { batchGpu: '8', batchSize: '16' }],
    ['--resume', { resume: true }],
    ['--resume --lr 1', { resume: true, lr: '1' }],
    ['--resume runs/0', { resume: 'runs/0' }],
    ['--lr -1', { lr: '-1' }],
    ['--lr -.5', { lr: '-.5' }],
    ['--workers 4 --fp16', { workers: '4', fp16: 'true' }],
    // Nothing else may follow a switch here: the wrong word is its value, to be refused by name.
    ['--dry-run 2', { dryRun: '2' }],
    ['--xflip y', { xflip: 'y' }],
  ])('%s', (line, expected) => {
    expect(parse(line)).toEqual(expected);
  });

  it('leaves what it does not know to commander', () => {
    expect(() => parse('--wat 3')).toThrow('--wat');
    expect(() => parse('--no-data')).toThrow('--no-data');
  });

  it('takes negative numbers and S_ names of the generator', () => {
    const command = new Command('generate').exitOverride();
    addFields(command, generateFields);
    command.parse(normaliseArgs(command, ['--x_start', '-16', '--S_churn', '40']), { from: 'user' });
    expect(command.opts()).toEqual({ xStart: '-16', sChurn: '40' });
  });

  it.each(['--data', '--data --preset tiny', '--data -n', '--seed=1 --lr'])('%s lacks a value', (line) => {
    expect(() => parse(line)).toThrow(/^--(data|lr) needs a value: --(data <path>|lr <x>)$/);
  });

  it('leaves what follows a switch alone where a path may follow', () => {
    const command = new Command('info').exitOverride().argument('<path>');
    addFields(command, { json: f.boolean('') });
    const spell = (line: string) => normaliseArgs(command, line.split(' '));
    expect(spell('--json 00000-photos')).toEqual(['--json=true', '00000-photos']);
    expect(spell('--json yes 00000-photos')).toEqual(['--json=yes', '00000-photos']);
  });

  it('reads switches, and refuses what is neither true nor false', () => {
    const fields = { dryRun: f.boolean('', { default: false }) };
    const read = (dryRun: unknown) => readFlags(fields, { dryRun }).dryRun;
    expect(['true', '1', 'Yes', 'on'].map(read)).toEqual([true, true, true, true]);
    expect([undefined, '0', 'no'].map(read)).toEqual([false, false, false]);
    for (const value of ['y', '2'])
      expect(() => read(value)).toThrow(`--dry-run: "${value}" is not allowed; use true or false`);
  });

  it('say in the help how they are switched off', () => {
    const command = new Command('c').configureHelp({ helpWidth: 200 });
    const text = { min: 1, nullWord: 'none' };
    addFields(command, { on: f.int('A', { ...text, default: 5 }), off: f.int('B', text) });
    const help = command.helpInformation();
    expect(help).toContain('A (integer ≥ 1, or "none"; default: 5)');
    expect(help).toContain('B (integer ≥ 1, or "none")');
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

  const step = {
    type: 'step',
    step: 10,
    nimg: 123_400,
    kimg: 123.4,
    totalNimg: 200_000,
    patchSizePx: 16,
    batch: 8,
    loss: 0.5,
    lr: 1e-3,
    gradNorm: 1,
    imagesPerSec: 123.4,
    etaSec: 7384,
    totalSec: 70,
    plannedSec: null,
    trainCpuSec: 60,
    plannedCpuSec: null,
  } as const;
  const status = { loss: 0.1234, rssBytes: 1.2 * 2 ** 30 };

  it.each([
    [
      200,
      '███████████████░░░░░░░░░ 61%  123.4/200 kimg  left 2h 03m 04s  loss 0.1234  123 images/s  1.2 GiB',
    ],
    [79, '████░░ 61%  123.4/200 kimg  left 2h 03m 04s  loss 0.1234  123 images/s  1.2 GiB'],
    [39, '61%  123.4/200 kimg  left 2h 03m 04s'],
  ])('fits into %i columns, the bar giving way first', (columns, line) => {
    expect(stepLine(step, status, columns)).toBe(line);
    expect(line.length).toBeLessThanOrEqual(columns);
  });

  it('has everything in 80 columns even in a run of days', () => {
    const long = {
      ...step,
      nimg: 12e6,
      kimg: 12_345.6,
      totalNimg: 200e6,
      imagesPerSec: 1234.5,
      etaSec: 880_000,
    };
    const line = stepLine(long, status, 79);
    expect(line).toBe('6%  12346/200000 kimg  left 10d 04h 26m  loss 0.1234  1235 images/s  1.2 GiB');
  });

  it('goes by the time where that ends the run', () => {
    const far = { ...step, nimg: 3400, kimg: 3.4, totalNimg: 100_000_000 };
    const line = stepLine({ ...far, plannedSec: 180 }, status, 79);
    expect(line).toMatch(/^█{2}░{2,} 38% {2}1m 10s of 3m 00s {2}left/);
    expect(stepLine({ ...step, plannedSec: 18_000 }, status, 79)).toContain('61%  123.4/200 kimg');
    expect(stepLine({ ...far, plannedSec: 180, plannedCpuSec: 120 }, status, 79)).toContain(
      '50%  1m 00s of 2m 00s CPU',
    );
  });

  it('never exceeds its columns', () => {
    fc.assert(
      fc.property(
        fc.double({ min: 0, max: 1, noNaN: true }),
        fc.array(fc.string()),
        fc.nat(200),
        (share, parts, n) => {
          expect(shareLine(share, parts, n).length).toBeLessThanOrEqual(Math.max(n, 4));
        },
      ),
    );
  });

  it.each([
    [0, 79],
    [40, 39],
    [undefined, 79],
  ])('takes a terminal of %s columns for one of %i', (columns, usable) => {
    const { stderr } = process;
    const before = Object.getOwnPropertyDescriptor(stderr, 'columns');
    Object.defineProperty(stderr, 'columns', { value: columns, configurable: true });
    try {
      expect(new LiveLine().columns).toBe(usable);
    } finally {
      if (before) Object.defineProperty(stderr, 'columns', before);
      else Reflect.deleteProperty(stderr, 'columns');
    }
  });

  it('ignores events that it does not know', () => {
    const view = new TrainProgressView();
    expect(() => view.onEvent({ type: 'from the future' } as unknown as TrainEvent)).not.toThrow();
    expect(view.hasStarted).toBe(false);
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
      plannedSec: null,
      trainCpuSec: 90,
      plannedCpuSec: null,
      secPerTick: 30,
      secPerKimg: 15,
      maintenanceSec: 1,
      etaSec: 60,
      rssBytes: 2 ** 30,
      noiseLevels: null,
      nonFiniteGrads: 2,
      stats: { timestamp: 0 },
    });
    expect(line).toBe(
      'tick 1      kimg 2.0        loss 0.5000 (p16 0.2500, p64 0.7500)  held out 0.6000  123.5 images/s  time 1m 01s  ' +
        'left 1m 00s  memory 1.0 GiB  2 updates with non-finite gradients',
    );
  });
});
