/** Bad input to the real command line: one line that says what is wrong and what to do, and nothing lost. */
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { listRuns } from '../../src/run/runs.js';
import { bin } from '../helpers/cli.js';
import { iconSet, runCli, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

/** Runs `train` and expects one line of the given kind on standard error. */
async function expectRefusal(flags: string[], code: number, message: RegExp): Promise<void> {
  const result = await runCli([
    'train',
    ...tinyFlags,
    '--out',
    join(dir, 'runs'),
    '--duration-kimg',
    '0.1',
    ...flags,
  ]);
  const lines = result.stderr.trim().split('\n');
  expect(lines.at(-1)).toMatch(message);
  expect(result.stderr).not.toMatch(/^\s+at /m);
  expect(result.code).toBe(code);
}

describe('train refuses', () => {
  it('a folder without images', async () => {
    await mkdir(join(dir, 'empty'));
    await expectRefusal(['--data', join(dir, 'empty')], 1, /no images/i);
  });

  it('data that is not there', () => expectRefusal(['--data', join(dir, 'nowhere')], 1, /nowhere/));

  it('a resolution that the network cannot halve', () =>
    expectRefusal(
      ['--data', data, '--resolution', '18', '--channel-mult', '1,2,2'],
      2,
      /18.*divisible by 4.*--resolution/,
    ));

  it('a batch that does not divide', () =>
    expectRefusal(
      ['--data', data, '--batch-gpu', '3'],
      2,
      /--batch-gpu 3 does not divide --batch 8; use --batch-gpu 2/,
    ));

  it('patch probabilities that do not sum to 1', () =>
    expectRefusal(['--data', data, '--patch-sizes', '8:0.2,16:0.3'], 2, /sum to 0\.5; they must sum to 1/));

  it('an output that cannot be written', async () => {
    const file = join(dir, 'a-file');
    await writeFile(file, '');
    await expectRefusal(['--data', data, '--out', join(file, 'runs')], 1, /choose another place/);
  });

  it('more held-out images than there are', () =>
    expectRefusal(['--data', data, '--holdout', '5000'], 2, /--holdout 5000/));

  it('a device that is not there', () =>
    expectRefusal(['--data', data, '--device', 'cuda:7'], 1, /--device cpu/));

  it('a run folder that another process uses', async () => {
    const run = [
      'train',
      '--data',
      data,
      ...tinyFlags,
      '--out',
      join(dir, 'used'),
      '--nosubdir',
      '--duration-kimg',
      '50',
      ...['--tick-kimg', '0.1', '--state-ticks', '1'],
    ];
    let second: ReturnType<typeof runCli> | null = null;
    const first = await runCli(run, (output, kill) => {
      if (second || !output.includes('training-state-')) return;
      second = runCli(['train', '--resume', join(dir, 'used')]);
      void second.then(() => kill('SIGTERM'));
    });
    expect(first.code, first.stderr).toBe(130);
    const { code, stderr } = await second!;
    expect(code).toBe(1);
    expect(stderr.trim().split('\n').at(-1)).toMatch(
      /already in use by process \d+ since [\dT:.-]+Z; wait for it or stop it first$/,
    );
  });

  it.runIf(process.platform === 'linux')(
    'a batch beyond the memory, naming the option to lower',
    async () => {
      const flags = [
        'train',
        '--data',
        data,
        ...tinyFlags,
        '--batch',
        '200000',
        '--out',
        join(dir, 'memory'),
      ];
      // A limit of its own, so that the test is the same on every machine.
      const { status, stderr } = spawnSync(
        'bash',
        ['-c', 'ulimit -d 2500000; exec "$0" "$@"', process.execPath, bin, ...flags],
        {
          encoding: 'utf8',
        },
      );
      const shown = stderr.trim().split('\n').at(-1)!;
      expect(shown).toMatch(/out of memory; lower --batch-gpu/);
      expect(status).toBe(1);
      // The run folder says what the terminal does.
      const [run] = await listRuns(join(dir, 'memory'));
      expect(run.json).toMatchObject({ status: 'failed', error: shown.replace(/^error: /, '') });
    },
  );
});

describe('images that cannot be used', () => {
  beforeAll(async () => {
    await mkdir(join(dir, 'mixed'));
    for (let i = 0; i < 10; i++) {
      const pixels = Buffer.alloc(16 * 16 * 3, i * 20);
      await sharp(pixels, { raw: { width: 16, height: 16, channels: 3 } })
        .png()
        .toFile(join(dir, 'mixed', `${i}.png`));
    }
    await writeFile(join(dir, 'mixed', 'text.png'), 'not an image');
    await writeFile(join(dir, 'mixed', 'empty.jpg'), '');
  });

  it('are skipped with a count and a list', async () => {
    const { code, stdout, stderr } = await runCli([
      'train',
      '--data',
      join(dir, 'mixed'),
      ...tinyFlags,
      '--out',
      join(dir, 'skip'),
      '--duration-kimg',
      '0.05',
    ]);
    expect(code, stderr).toBe(0);
    const output = stdout + stderr;
    expect(output).toMatch(/2 .*skipped|skipped 2/);
    for (const name of ['text.png', 'empty.jpg']) expect(output).toContain(name);
  });

  it('are refused with --strict', () =>
    expectRefusal(['--data', join(dir, 'mixed'), '--strict'], 1, /text\.png|empty\.jpg/));

  it('of several sizes need a resolution for prepare', async () => {
    await mkdir(join(dir, 'sizes'));
    for (const side of [16, 24]) {
      await sharp(Buffer.alloc(side * side * 3), { raw: { width: side, height: side, channels: 3 } })
        .png()
        .toFile(join(dir, 'sizes', `${side}.png`));
    }
    const { code, stderr } = await runCli(['prepare', join(dir, 'sizes'), '--out', join(dir, 'sizes.zip')]);
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/--resolution/);
    expect(await readdir(dir)).not.toContain('sizes.zip');
  });
});

it.runIf(process.getuid?.() !== 0)('a read-only output is named', async () => {
  const out = join(dir, 'read-only');
  await mkdir(out);
  await chmod(out, 0o500);
  await expectRefusal(['--data', data, '--out', join(out, 'runs')], 1, /permission denied/);
});

it('generate leaves no folder behind when there is no network', async () => {
  const out = join(dir, 'never');
  const { code, stderr } = await runCli([
    'generate',
    '--network',
    join(dir, 'none.safetensors'),
    '--out',
    out,
  ]);
  expect(stderr).toMatch(/none\.safetensors/);
  expect(code).toBe(1);
  expect(await readdir(dir)).not.toContain('never');
});
