/** Runs the built command line (dist), as a user does, and compares output and exit codes. */

import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/program.js';
import { programName } from '../../src/common/program-name.js';
import { startCli } from '../helpers/cli.js';

const isBuilt = existsSync(fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url)));

let dir = '';
beforeAll(async () => {
  if (!isBuilt) throw new Error('the command line is not built; run npm run build first');
  dir = await mkdtemp(join(tmpdir(), 'cli-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const run = (...args: string[]) => startCli(args, { cwd: dir }).end;

describe('help', () => {
  it('lists every command', async () => {
    const { code, stdout, stderr } = await run('--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const { name, summary } of commands)
      expect(stdout).toMatch(new RegExp(`^  ${name} +${summary}$`, 'm'));
    expect((await run()).stdout).toBe(stdout);
  });

  it.each(commands.map(({ name }) => name))('%s --help', async (name) => {
    const { code, stdout, stderr } = await run(name, '--help');
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toContain(`Usage: patch-diffusion ${name}`);
    expect(stdout).not.toMatch(/undefined|\[object/);
    expect(stdout).not.toContain('\u001b');
  });

  it.each(['prepare', 'avatars', 'train', 'generate', 'info', 'demo'])(
    '%s --help has examples',
    async (name) => {
      const { stdout } = await run(name, '--help');
      expect(stdout).toMatch(new RegExp(`\\nExamples:\\n  \\$ (npx )?patch-diffusion ${name}\\b`));
    },
  );

  it('prints the version', async () => {
    expect(await run('--version')).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
    });
  });
});

describe('usage errors: one line, exit code 2', () => {
  it.each([
    [['trian'], 'unknown command "trian"; did you mean "train"?'],
    [['--bogus'], `unknown option --bogus; see ${programName()} --help`],
    [
      ['train', '--data', 'x', '--model-chanels', '3'],
      'unknown option --model-chanels; did you mean --model-channels?',
    ],
    [['train', '--data', 'x', '--lr', 'NaN'], '--lr: "NaN" is not allowed; use a number > 0 and ≤ 1'],
    [
      ['train', '--data', 'x', '--batch', '-1'],
      '--batch: "-1" is not allowed; use an integer from 1 to 1000000, in images',
    ],
    [['train', '--data', 'x', '--real_p=2'], '--real-p: "2" is not allowed; use a number from 0 to 1'],
    [['train', '--data', 'x', '--preset', 'smal'], 'unknown preset "smal"; did you mean "small"?'],
    [['train'], 'no images given; add --data FOLDER (or a zip), or "data" in the config'],
    [['train', '--data'], '--data needs a value: --data <path>'],
    [['train', '--data', '--preset', 'tiny'], '--data needs a value: --data <path>'],
    [['train', '--data', 'x', '--dry-run', '2'], '--dry-run: "2" is not allowed; use true or false'],
    [['train', '--data', 'x', '--fp16=maybe'], '--fp16: "maybe" is not allowed; use true or false'],
    [['info', '--json=y', 'x'], '--json: "y" is not allowed; use true or false'],
    [['export', '--run', 'x'], '--format is missing; add --format <torch|safetensors|onnx>'],
    [
      ['generate', '--network', '.', '--out', 'x'],
      '--network . is a folder; for the newest snapshot of a run use --run .',
    ],
    [['train', '--data', 'x', '--config', 'no.yaml'], 'config file no.yaml does not exist'],
    [['generate'], 'say which network to use: --run RUN_FOLDER, or --network SNAPSHOT.safetensors'],
    [['prepare', 'x'], 'no output given; add --out, for example --out photos-64.zip'],
    [['info'], `missing required argument 'path'; see ${programName()} info --help`],
    [
      ['demo', '--minutes', 'NaN'],
      '--minutes: "NaN" is not allowed; use a number > 0 and ≤ 100000, in minutes',
    ],
  ])('%j', async (args, message) => {
    expect(await run(...args)).toEqual({ code: 2, stdout: '', stderr: `error: ${message}\n` });
  });

  it('names the file and key of a wrong value in a config file', async () => {
    await writeFile(join(dir, 'c.yaml'), 'data: x\nlearning_rat: 1\n');
    expect((await run('train', '--config', 'c.yaml')).stderr).toBe(
      'error: unknown option "learning_rat" in c.yaml; did you mean "learning-rate"?\n',
    );
    await writeFile(join(dir, 'd.json'), '{"data": "x", "batch": 0}');
    expect((await run('train', '--config', 'd.json')).stderr).toMatch(
      /^error: "batch" in d\.json: 0 is not allowed; use an integer/,
    );
  });

  it('shows a stack trace with --verbose only', async () => {
    expect((await run('info', 'nope')).stderr).toBe('error: nope does not exist; check the path\n');
    expect((await run('info', 'nope', '--verbose')).stderr).toMatch(
      /UserError: .*\n\s+at .*\n[\s\S]*error: nope does not exist/,
    );
  });
});

describe('other errors: one line, exit code 1', () => {
  it.each([
    [['info', 'nope'], 'nope does not exist; check the path'],
    [
      ['train', '--resume', '--out', 'no-runs'],
      'no run with a saved state in no-runs; name one: --resume RUN_FOLDER',
    ],
    [['train', '--resume', '.'], '. is not a run folder (it has no run.json); check the path'],
  ])('%j', async (args, message) => {
    expect(await run(...args)).toEqual({ code: 1, stdout: '', stderr: `error: ${message}\n` });
  });
});

it('the doctor answers where there is no libtorch', async () => {
  const { code, stdout } = await startCli(['doctor'], {
    cwd: dir,
    env: { LIBTORCH: '/nowhere', TORCH_ADDON: '' },
  }).end;
  expect(code).toBe(1);
  expect(stdout).toMatch(/^libtorch +not found$/m);
  expect(stdout).toMatch(/Problem: LIBTORCH is set, but .*\/nowhere/);
});
