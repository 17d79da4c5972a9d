/** Options, config files and run.json with values of any kind: every refusal is a line for people. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { readConfigFile } from '../../src/config/config-file.js';
import { generateFields, resolveGenerateOptions } from '../../src/config/generate-options.js';
import { prepareFields, resolvePrepareOptions } from '../../src/config/prepare-options.js';
import type { OptionSources } from '../../src/config/read-values.js';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import { trainFields } from '../../src/config/train-options.js';
import { readRunJson } from '../../src/run/runs.js';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'damaged-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Runs it; what it throws must be a UserError of one line. */
function expectForPeople(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    expect(error).toBeInstanceOf(UserError);
    expect((error as Error).message).not.toMatch(/[\n\r]|undefined/);
  }
}

const cyclic: Record<string, unknown> = {};
cyclic.self = cyclic;
const strange = fc.constantFrom<unknown>(cyclic, 10n, Symbol('s'), () => 0, Object.create(null), new Date(0));

describe.each([
  ['train', trainFields, (s: OptionSources) => resolveTrainOptions(s), { data: 'x' }],
  ['generate', generateFields, (s: OptionSources) => resolveGenerateOptions(s), { run: 'x' }],
  ['prepare', prepareFields, (s: OptionSources) => resolvePrepareOptions(s), { source: 'x', out: 'y.zip' }],
] as const)('%s', (_, fields, resolve, needed) => {
  it('refuses values of any kind in words', () => {
    const values = fc.oneof(fc.jsonValue(), strange, fc.string());
    const given = fc.dictionary(fc.oneof(fc.constantFrom(...Object.keys(fields)), fc.string()), values);
    fc.assert(
      fc.property(given, fc.constantFrom('call', 'flags', 'file'), (some, kind) => {
        const options = { ...needed, ...some };
        const source = kind === 'file' ? { name: 'a.yaml', values: options } : options;
        expectForPeople(() => resolve({ [kind]: source }));
      }),
    );
  });
});

it('a value is shown as it stands, in a few words', () => {
  const message = (lr: unknown) => {
    try {
      resolveTrainOptions({ call: { data: 'x', lr } });
      return null;
    } catch (error) {
      return (error as Error).message.split(' is not allowed')[0];
    }
  };
  expect(message(cyclic)).toMatch(/^option "lr": <ref \*1>/);
  expect(message({ a: [1] })).toBe('option "lr": { a: [ 1 ] }');
  expect(message('two\nlines')).toBe('option "lr": "two\\nlines"');
  expect(message('x'.repeat(1000))).toHaveLength('option "lr": '.length + 58);
});

it('config files of any kind are read or refused in words', async () => {
  const file = join(dir, 'c.yaml');
  const texts = [
    'a: &a [*a]\ndata: *a',
    '? [data]\n: 1',
    'data: !!binary aGk=\nlr: 2001-01-01',
    'data: x\nbatch: 0x10\nlr: .inf\nseed: 1e3',
    '--- a\n--- b',
    'status: done\nconfig: [1]',
    '\0',
  ];
  for (const text of texts) {
    await writeFile(file, text);
    const values = await readConfigFile(file).catch((error: unknown) => {
      expectForPeople(() => {
        throw error;
      });
      return null;
    });
    if (values !== null) expectForPeople(() => resolveTrainOptions({ file: { name: file, values } }));
  }
});

describe('run.json', () => {
  const whole = {
    ...{ format: 1, config: resolveTrainOptions({ call: { data: 'x' } }), status: 'done', version: '1' },
    ...{ pid: 1, host: 'h', startedAt: '', heartbeat: '', step: 0, nimg: 0, totalNimg: 1 },
  };
  const read = async (json: unknown) => {
    await mkdir(join(dir, 'run'), { recursive: true });
    await writeFile(join(dir, 'run', 'run.json'), JSON.stringify(json));
    return readRunJson(join(dir, 'run'));
  };

  it.each([
    [{ config: null }, 'config is missing or of another type'],
    [{ config: { data: 'x' } }, 'config.preset is missing or of another type'],
    [{ status: 'asleep' }, 'status is missing or of another type'],
    [{ nimg: '7' }, 'nimg is missing or of another type'],
    [{ host: undefined }, 'host is missing or of another type'],
    [{ format: 2 }, 'was written by a newer version of this program'],
  ])('with %j is refused', async (change, message) => {
    expect(await read(whole)).toEqual(whole);
    await expect(read({ ...whole, ...change })).rejects.toThrow(message);
  });

  it('with a wrong option names it, and the file, when the run is resumed', () => {
    const base = { name: 'r/run.json', values: { ...whole.config, channelMult: 'wide' } };
    expect(() => resolveTrainOptions({ base })).toThrow(
      /^"channelMult" in r\/run\.json: "wide" is not allowed/,
    );
  });
});
