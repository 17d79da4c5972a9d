/** The built command line trains a very small network: interrupt, resume, sample. */

import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { readRunJson } from '../../src/run/runs.js';
import { startCli } from '../helpers/cli.js';

const SIDE = 16;
const NETWORK = '--model-channels 8 --channel-mult 1,1 --num-blocks 1 --batch 4'.split(' ');
const OUTPUT = '--tick 0.04 --samples 2 --sample-steps 1 --seed 1 --out runs'.split(' ');

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cli-train-'));
  await mkdir(join(dir, 'photos'));
  for (let i = 0; i < 12; i++) {
    const background = { r: 20 * i, g: 255 - 20 * i, b: 128 };
    const image = sharp({ create: { width: SIDE, height: SIDE, channels: 3, background } });
    await image.png().toFile(join(dir, 'photos', `${i}.png`));
  }
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const start = (...args: string[]) => startCli(args, { cwd: dir });

it('saves when it is interrupted, goes on, and draws images', async () => {
  const first = start(
    'train',
    '--data',
    'photos',
    '--preset',
    'tiny',
    '--resolution',
    `${SIDE}`,
    ...NETWORK,
    ...OUTPUT,
  );
  await first.until('tick 1');
  first.child.kill('SIGINT');
  const { code, stderr } = await first.end;
  expect({ code, stderr: stderr.includes('error') }, stderr).toEqual({ code: 130, stderr: false });
  expect(stderr).toMatch(/Continue with: (npx )?patch-diffusion train --resume runs\/00000-photos\n/);
  const run = join(dir, 'runs', '00000-photos');
  const interrupted = await readRunJson(run);
  expect(interrupted).toMatchObject({ status: 'interrupted', config: { resolution: SIDE, seed: 1 } });

  const resume = ['train', '--resume', 'runs/00000-photos', '--duration-kimg'];
  const second = start(...resume, '100');
  await second.until('tick');
  // While one process trains, another may not.
  const third = await start(...resume, '100').end;
  expect(third.code).toBe(1);
  expect(third.stderr).toMatch(
    /already in use by process \d+ since [\dT:.-]+Z; wait for it or stop it first\n$/,
  );
  second.child.kill('SIGTERM');
  const resumed = await second.end;
  expect(resumed.code).toBe(130);
  expect(resumed.stderr).toMatch(
    /^Resumed from runs\/00000-photos\/state\/training-state-\d+[\d-]*\.safetensors \(0\.\d kimg, \d+ updates\)$/m,
  );
  expect(resumed.stderr).toMatch(
    /^Patches: +4×4 \(38 → 0 %, 4× the batch\), .*16×16 \(5 → 100 %\), annealed$/m,
  );
  const nimg = (await readRunJson(run))!.nimg;
  expect(nimg).toBeGreaterThan(interrupted!.nimg);
  expect(await start(...resume, `${(nimg + 60) / 1000}`).end).toMatchObject({
    code: 0,
    stdout: 'runs/00000-photos\n',
  });
  const done = await readRunJson(run);
  expect(done).toMatchObject({ status: 'done' });
  expect((await readdir(run)).includes('lock')).toBe(false);

  const generated = await start('generate', '--run', 'runs/00000-photos', '--seeds', '3,5', '--steps', '2')
    .end;
  expect(generated).toMatchObject({
    code: 0,
    stdout: 'runs/00000-photos/generated/000003.png\nruns/00000-photos/generated/000005.png\n',
  });
  const info = await start('info', 'runs/00000-photos', '--json').end;
  expect(JSON.parse(info.stdout)).toMatchObject({ kind: 'run', status: 'done', nimg: done!.nimg });
});

it('describes a run without doing it', async () => {
  const { code, stdout } = await start(
    'train',
    '--data',
    'photos',
    '--preset',
    'tiny',
    ...NETWORK,
    '--out',
    'dry',
    '-n',
  ).end;
  expect(code).toBe(0);
  expect(stdout).toMatch(/Parameters +[\d,]+\n/);
  expect(stdout).toMatch(/Patches +8×8 \(38 → 0 %.*32×32 \(5 → 100 %\), annealed\n/);
  expect(await readdir(dir)).not.toContain('dry');
});
