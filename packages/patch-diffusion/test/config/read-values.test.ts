import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import type { Fields } from '../../src/config/fields.js';
import { generateFields } from '../../src/config/generate-options.js';
import { prepareFields } from '../../src/config/prepare-options.js';
import { presetNames, presets } from '../../src/config/presets.js';
import { foldName, kebab, nameTable, parseIntList, readValues } from '../../src/config/read-values.js';
import { trainFields } from '../../src/config/train-options.js';

const flag = (flags: Record<string, unknown>) => readValues(trainFields, flags, 'flag');

/** The error that reading these flags gives. */
function complaint(flags: Record<string, unknown>): UserError {
  try {
    flag(flags);
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    expect((error as UserError).exitCode).toBe(2);
    return error as UserError;
  }
  throw new Error(`accepted ${JSON.stringify(flags)}`);
}

describe('names', () => {
  it('folds all spellings of a name into one', () => {
    for (const name of ['realP', 'real_p', 'real-p', '--real_p']) expect(foldName(name)).toBe('real-p');
    for (const name of ['sChurn', 'S_churn', 's-churn']) expect(foldName(name)).toBe('s-churn');
  });

  it.each([
    ['train', trainFields],
    ['generate', generateFields],
    ['prepare', prepareFields],
  ])('gives every name of %s to one option only', (_, fields: Fields) => {
    const names = Object.entries(fields).flatMap(([key, { aliases }]) => [
      kebab(key),
      ...aliases.map((alias) => foldName(alias.name)),
    ]);
    expect(new Set(names).size).toBe(names.length);
    expect(nameTable(fields).size).toBe(names.length);
  });
});

describe('official names and units', () => {
  it.each([
    [{ duration: '200' }, { durationKimg: 200_000 }],
    [{ ema: '0.5' }, { emaHalflifeKimg: 500 }],
    [{ cres: '1,2,2,2' }, { channelMult: [1, 2, 2, 2] }],
    [{ cres: '1-4' }, { channelMult: [1, 2, 3, 4] }],
    [{ cbase: '128' }, { modelChannels: 128 }],
    [{ lr: '10e-4' }, { lr: 1e-3 }],
    [{ real_p: '0.5' }, { realP: 0.5 }],
    [
      { tick: '50', snap: '25', dump: '500' },
      { tickKimg: 50, snapshotTicks: 25, stateTicks: 500 },
    ],
    [
      { outdir: 'runs', ls: '100' },
      { out: 'runs', lossScaling: 100 },
    ],
    [{ xflip: 'True' }, { xflip: true }],
    [
      { xflip: '0', nosubdir: 'yes' },
      { xflip: false, nosubdir: true },
    ],
    [
      { emaRampupRatio: 'none', batchGpu: 'batch' },
      { emaRampupRatio: null, batchGpu: null },
    ],
    [{ attnResolutions: 'none' }, { attnResolutions: [] }],
    [{ betas: '0.9,0.99' }, { betas: [0.9, 0.99] }],
    [{ cond: 'auto' }, { cond: 'auto' }],
    [{ resume: true }, { resume: 'newest' }],
  ])('%j', (flags, expected) => {
    expect(flag(flags)).toEqual(expected);
  });

  it('refuses one option under two names', () => {
    expect(complaint({ duration: '1', durationKimg: '5' }).message).toMatch(
      /--duration and --duration-kimg are the same option/,
    );
  });
});

describe('complaints', () => {
  it.each([
    [{ lr: 'NaN' }, '--lr: "NaN" is not allowed; use a number > 0 and ≤ 1'],
    [{ batch: '-4' }, '--batch: "-4" is not allowed'],
    [{ batch: '1.5' }, 'an integer from 1 to 1000000, in images'],
    [{ batch: '' }, '--batch: "" is not allowed'],
    [{ real_p: '1.01' }, '--real-p: "1.01" is not allowed; use a number from 0 to 1'],
    [{ duration: '0' }, '--duration: "0" is not allowed; use a number > 0, in Mimg'],
    [{ cres: '1,two' }, '--cres: "1,two" is not allowed'],
    [{ arch: 'ncsn' }, 'did you mean ncsnpp?'],
    [{ lossNorm: 'average' }, 'one of mean, sum'],
    [{ channels: '2' }, 'one of 1, 3, 4, or "auto"'],
    [{ seed: '1e99' }, '--seed'],
    [{ lr: 'Infinity' }, '--lr'],
    [{ modelChanels: '64' }, 'unknown option --model-chanels; did you mean --model-channels?'],
    [{ zzz: '1' }, 'unknown option --zzz; see --help'],
  ])('%j', (flags, message) => {
    expect(complaint(flags).message).toContain(message);
  });

  it('names the file for values in a file, the option for values of a call', () => {
    const file = () => readValues(trainFields, { lr: -1 }, { file: 'a.yaml' });
    expect(file).toThrow('"lr" in a.yaml: -1 is not allowed');
    const call = () => readValues(trainFields, { lr: Number.NaN }, 'call');
    expect(call).toThrow('option "lr": NaN is not allowed');
  });

  it('does not convert text in a library call', () => {
    expect(() => readValues(trainFields, { batch: '64' }, 'call')).toThrow('"64" is not allowed');
  });

  it('is one line, whatever is given', () => {
    fc.assert(
      fc.property(fc.constantFrom(...Object.keys(trainFields)), fc.string(), (key, value) => {
        try {
          flag({ [key]: value });
        } catch (error) {
          expect(error).toBeInstanceOf(UserError);
          const { message } = error as UserError;
          expect(message).toContain(`--${kebab(key)}`);
          expect(message.includes('undefined')).toBe(false);
        }
      }),
    );
  });
});

describe('values', () => {
  it('reads every preset value back from its text', () => {
    for (const name of presetNames) {
      for (const [key, value] of Object.entries(presets[name].values)) {
        const word = trainFields[key as keyof typeof trainFields].nullWord;
        const text = value === null ? word : Array.isArray(value) ? value.join(',') : String(value);
        expect(flag({ [key]: text })).toEqual({ [key]: value });
      }
    }
  });

  it('accepts every number in range and none outside', () => {
    fc.assert(
      fc.property(fc.double({ min: -2, max: 3, noNaN: true }), (p) => {
        const isIn = p >= 0 && p <= 1;
        // Text has no negative zero.
        if (isIn) expect(flag({ realP: String(p) })).toEqual({ realP: p + 0 });
        else expect(() => flag({ realP: String(p) })).toThrow('--real-p');
      }),
    );
  });

  it('reads lists and ranges', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { minLength: 1 }), (list) => {
        expect(parseIntList(list.join(','))).toEqual(list);
        expect(parseIntList(`[${list.join(', ')}]`)).toEqual(list);
      }),
    );
    expect(parseIntList('0-3,7')).toEqual([0, 1, 2, 3, 7]);
    expect(parseIntList('5-2')).toEqual([Number.NaN]);
    expect(parseIntList('0-99999999999')).toEqual([Number.NaN]);
  });

  it('reads sizes', () => {
    const size = (text: string) => readValues(prepareFields, { resolution: text }, 'flag').resolution;
    expect(size('64')).toBe(64);
    expect(size('96x64')).toEqual({ width: 96, height: 64 });
    expect(() => size('64x')).toThrow('--resolution: "64x" is not allowed');
  });
});
