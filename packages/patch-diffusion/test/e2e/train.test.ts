/** The main job with the real command line: train, resume exactly, stop cleanly, generate. */
import { spawnSync } from 'node:child_process';
import { readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { iconSet, runCli, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';
import { expectSameState, stateOf as stateOfRun } from '../helpers/tiny-train.js';

const bin = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));
let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

const train = (out: string, kimg: number, ...more: string[]) =>
  runCli([
    'train',
    '--data',
    data,
    ...tinyFlags,
    '--out',
    join(dir, out),
    '--nosubdir',
    '--duration-kimg',
    String(kimg),
    ...more,
  ]);

const stateOf = (out: string) => stateOfRun(join(dir, out));

/** Draws from the first run of this file. */
const drawOne = (flags: readonly string[]) =>
  runCli(['generate', '--run', join(dir, 'plain'), '--count', '1', ...flags]);

describe('train', () => {
  it('trains, writes the run folder, and the loss falls', async () => {
    const { code, stderr } = await train(
      'plain',
      3,
      '--tick-kimg',
      '0.5',
      '--holdout',
      '16',
      '--cond',
      'true',
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: expect.any(String) });
    const run = JSON.parse(await readFile(join(dir, 'plain/run.json'), 'utf8'));
    expect(run).toMatchObject({ status: 'done', config: { seed: 7, modelChannels: 8 } });
    const lines = (await readFile(join(dir, 'plain/stats.jsonl'), 'utf8'))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const heldOut = lines.map((line) => line['Loss/held_out'].mean as number);
    expect(heldOut.at(-1)).toBeLessThan(heldOut[0] * 0.9);
    expect(lines.at(-1)['Progress/kimg'].mean).toBeGreaterThanOrEqual(3);
    const sheet = sharp(join(dir, 'plain/samples', (await readdir(join(dir, 'plain/samples')))[0]));
    expect(await sheet.metadata()).toMatchObject({ width: 32, height: 32, channels: 3 });
  });

  it('resumes exactly: the same bytes as a run that was never interrupted', async () => {
    // What moves over a run depends on its length.
    const steady = ['--schedule', 'stratified', '--lr-cooldown', '0'];
    await train('whole', 2, ...steady);
    await train('halves', 1, ...steady);
    const resumed = await runCli(['train', '--resume', join(dir, 'halves'), '--duration-kimg', '2']);
    expect(resumed.code, resumed.stderr).toBe(0);
    expectSameState(await stateOf('halves'), await stateOf('whole'));
  });

  it('stops on SIGTERM with the state saved, exits with 130, and goes on exactly', async () => {
    let sent = false;
    const stopped = await runCli(
      [
        'train',
        '--data',
        data,
        ...tinyFlags,
        '--out',
        join(dir, 'stopped'),
        '--nosubdir',
        '--duration-kimg',
        '2',
        '--tick-kimg',
        '0.3',
      ],
      (output, kill) => {
        if (!sent && /tick 1 /.test(output)) {
          sent = true;
          kill('SIGTERM');
        }
      },
    );
    expect(stopped.code, stopped.stderr).toBe(130);
    expect(JSON.parse(await readFile(join(dir, 'stopped/run.json'), 'utf8'))).toMatchObject({
      status: 'interrupted',
    });
    expect((await runCli(['train', '--resume', join(dir, 'stopped')])).code).toBe(0);
    const whole = await train('unstopped', 2, '--tick-kimg', '0.3');
    expect(whole.code).toBe(0);
    expectSameState(await stateOf('stopped'), await stateOf('unstopped'));
  });

  it('accumulates gradients over rounds', async () => {
    expect(await train('rounds', 0.1, '--batch-gpu', '4')).toMatchObject({ code: 0 });
  });

  it('trains on a folder of greyscale images of another shape', async () => {
    const folder = join(dir, 'grey');
    await import('node:fs/promises').then(({ mkdir }) => mkdir(folder));
    for (let i = 0; i < 12; i++) {
      const pixels = Buffer.from(Array.from({ length: 40 * 30 }, (_, p) => (p * (i + 3)) % 251));
      await sharp(pixels, { raw: { width: 40, height: 30, channels: 1 } })
        .toColourspace('b-w')
        .png()
        .toFile(join(folder, `${i}.png`));
    }
    const { code, stderr } = await runCli([
      'train',
      '--data',
      folder,
      ...tinyFlags,
      '--out',
      join(dir, 'grey-run'),
      '--nosubdir',
      '--duration-kimg',
      '0.1',
    ]);
    expect(code, stderr).toBe(0);
    const out = join(dir, 'grey-images');
    expect(
      (await runCli(['generate', '--run', join(dir, 'grey-run'), '--count', '2', '--out', out])).code,
    ).toBe(0);
    expect(await sharp(join(out, '000001.png')).metadata()).toMatchObject({
      width: 16,
      height: 16,
      channels: 1,
    });
  });
});

describe('generate', () => {
  beforeAll(async () => {
    if (!(await stat(join(dir, 'plain')).catch(() => null))) await train('plain', 1, '--cond', 'true');
  });

  it('gives a seed the same picture in every batch', async () => {
    const [a, b] = [join(dir, 'batch-1'), join(dir, 'batch-4')];
    const grid = join(dir, 'sheets', 'new', 'grid.png');
    const first = await runCli([
      'generate',
      '--run',
      join(dir, 'plain'),
      '--seeds',
      '3-6',
      '--batch',
      '1',
      '--steps',
      '4',
      '--out',
      a,
    ]);
    expect(first.code, first.stderr).toBe(0);
    await runCli([
      'generate',
      '--run',
      join(dir, 'plain'),
      '--seeds',
      '5,6,3,4',
      '--batch',
      '4',
      '--steps',
      '4',
      '--out',
      b,
      '--grid',
      grid,
    ]);
    for (const name of ['000003.png', '000006.png']) {
      const [one, other] = await Promise.all(
        [a, b].map((folder) => sharp(join(folder, name)).raw().toBuffer()),
      );
      // Batched kernels may round differently: at most one level.
      const worst = Math.max(...one.map((value, i) => Math.abs(value - other[i])));
      expect(worst).toBeLessThanOrEqual(1);
    }
    // Two rows of two, each with its label, in a folder that was made for it.
    expect(await sharp(grid).metadata()).toMatchObject({
      width: 2 * 12 + 2 * 128,
      height: 12 + 2 * (24 + 128 + 12),
    });
  });

  it.each([
    [
      'a class that is not there',
      ['--class', '99'],
      /--class 99: this network was trained on images of classes 0 \(/,
    ],
    [
      'a size that cannot be halved',
      ['--image-size', '17'],
      /--image-size 17 cannot be halved .* multiples of 2/,
    ],
  ])('refuses %s', async (_, flags, message) => {
    const { code, stderr } = await drawOne(flags);
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });

  it('looks at its output before it draws', async () => {
    const file = join(dir, 'in-the-way');
    await writeFile(file, '');
    for (const flags of [
      ['--grid', join(file, 'sheet.png')],
      ['--grid', dir],
      ['--out', join(file, 'images')],
    ]) {
      const { code, stderr } = await drawOne(flags);
      expect(code, stderr).toBe(1);
      expect(stderr).toContain(file.startsWith(flags[1]) ? 'is a folder' : 'cannot write to');
    }
  });

  it.runIf(process.platform === 'linux')('names its own options when memory runs out', () => {
    const flags = ['generate', '--run', join(dir, 'plain'), '--count', '1', '--image-size', '16384'];
    const { status, stderr } = spawnSync(
      'bash',
      [
        '-c',
        'ulimit -d 2500000; exec "$0" "$@"',
        process.execPath,
        bin,
        ...flags,
        '--out',
        join(dir, 'huge'),
      ],
      { encoding: 'utf8' },
    );
    expect(stderr.trim().split('\n').at(-1)).toMatch(/out of memory; lower --batch or --image-size$/);
    expect(status).toBe(1);
  });

  it('says what is wrong with a file that is not a whole snapshot', async () => {
    const snapshots = join(dir, 'plain/snapshots');
    const file = join(snapshots, (await readdir(snapshots))[0]);
    const broken = join(dir, 'broken.safetensors');
    await writeFile(broken, await readFile(file));
    await truncate(broken, 5000);
    const text = join(dir, 'text.safetensors');
    await writeFile(text, 'just some text, not tensors');
    const states = join(dir, 'plain/state');
    const state = join(states, (await readdir(states))[0]);
    for (const path of [broken, text, state, join(dir, 'absent.safetensors')]) {
      const { code, stderr } = await runCli([
        'generate',
        '--network',
        path,
        '--count',
        '1',
        '--out',
        join(dir, 'never'),
      ]);
      expect(code, path).toBe(1);
      expect(stderr.trim().split('\n'), path).toHaveLength(1);
      expect(stderr).toContain(path);
    }
  });
});
