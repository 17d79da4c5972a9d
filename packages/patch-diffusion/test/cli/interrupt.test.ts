/** Ctrl-C and closed pipes, with the built command line. */

import { spawn } from 'node:child_process';
import { link, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { READY_MADE } from '../../src/run/ready-made.js';
import { bin, type Outcome, startCli } from '../helpers/cli.js';

const NETWORK = '--preset tiny --model-channels 8 --channel-mult 1,1 --num-blocks 1 --batch 4 --threads 1';
const TRAIN = `train --resolution 16 --seed 1 --sample-steps 1 --samples 2 ${NETWORK}`.split(' ');

let dir = '';
const start = (...args: string[]) => startCli(args, { cwd: dir });
const readRun = async (folder: string) => JSON.parse(await readFile(join(dir, folder, 'run.json'), 'utf8'));

/** Waits until a file whose name fits appears. */
async function untilFile(folder: string, name: RegExp): Promise<void> {
  for (;;) {
    const names = await readdir(join(dir, folder)).catch(() => []);
    if (names.some((found) => name.test(found))) return;
    await sleep(10);
  }
}

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'interrupt-'));
  await mkdir(join(dir, 'small'));
  for (let i = 0; i < 8; i++) {
    const background = { r: 30 * i, g: 100, b: 255 - 30 * i };
    const image = sharp({ create: { width: 16, height: 16, channels: 3, background } });
    await image.png().toFile(join(dir, 'small', `${i}.png`));
  }
  // Enough work that a signal comes in the middle of it.
  await mkdir(join(dir, 'large'));
  const noise = { type: 'gaussian', mean: 128, sigma: 60 } as const;
  const large = sharp({ create: { width: 1200, height: 1200, channels: 3, background: 'grey', noise } });
  await large.png({ compressionLevel: 1 }).toFile(join(dir, 'large.png'));
  for (let i = 0; i < 400; i++) await link(join(dir, 'large.png'), join(dir, 'large', `${i}.png`));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('an interrupt', () => {
  it('is confirmed, and the third one quits at once; SIGTERM and SIGHUP count, too', async () => {
    const code = `
      import { interruptible } from ${JSON.stringify(new URL('../../dist/cli/interrupt.js', import.meta.url).href)};
      await interruptible(() => 'saving', console.log, () => { console.log('ready'); return new Promise((r) => setTimeout(r, 60_000)); });`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    let text = '';
    const until = async (wanted: string) => {
      while (!text.includes(wanted)) await sleep(5);
    };
    child.stdout.on('data', (part: Buffer) => (text += part));
    const end = new Promise((resolve) => child.on('exit', (status) => resolve(status)));
    await until('ready');
    child.kill('SIGINT');
    await until('stopping: saving (press Ctrl-C twice more to quit at once)');
    child.kill('SIGTERM');
    await until('still saving; once more quits at once and loses it');
    child.kill('SIGHUP');
    expect(await end).toBe(130);
  });

  it('while images load stops without talk of a state', async () => {
    const { child, until, end } = start(...TRAIN, '--data', 'large', '--out', 'loading');
    await until('Schedule:');
    child.kill('SIGINT');
    const { code, stderr } = await end;
    expect(code, stderr).toBe(130);
    expect(stderr).toMatch(/^stopping \(press/m);
    expect(stderr).not.toMatch(/saving|state|error/);
  });

  it('during a sheet gives the sheet up and saves', async () => {
    const flags = ['--data', 'small', '--out', 'sheet', '--nosubdir', '--tick-kimg', '0.02'];
    const { child, until, end } = start(...TRAIN, ...flags, '--samples', '64', '--sample-steps', '10000');
    await until('tick 1');
    await sleep(100);
    child.kill('SIGHUP');
    const { code, stderr } = await end;
    expect(code, stderr).toBe(130);
    expect(stderr).toContain('stopping: saving the training state');
    expect(await readRun('sheet')).toMatchObject({ status: 'interrupted' });
    expect(await readdir(join(dir, 'sheet/samples'))).toEqual([]);
    expect(await readdir(join(dir, 'sheet/state'))).toHaveLength(1);
  });

  it('of generate keeps the files that are whole', async () => {
    const out = 'drawn';
    const { child, end } = start(
      ...`generate --run sheet --count 5000 --batch 1 --steps 2 --threads 1 --out ${out}`.split(' '),
    );
    await untilFile(out, /^000001\.png$/);
    child.kill('SIGINT');
    const { code, stderr } = await end;
    expect(code, stderr).toBe(130);
    const files = await readdir(join(dir, out));
    expect(files.filter((name) => !/^\d{6}\.png$/.test(name))).toEqual([]);
    expect(files.length).toBeLessThan(5000);
    for (const name of files) await sharp(join(dir, out, name)).stats();
  });

  it('of prepare leaves nothing behind', async () => {
    await mkdir(join(dir, 'prepared'));
    const { child, end } = start('prepare', 'large', '--out', 'prepared/a.zip', '--resolution', '64');
    await untilFile('prepared', /./);
    child.kill('SIGTERM');
    const { code, stderr } = await end;
    expect(code, stderr).toBe(130);
    expect(stderr).toContain('stopping: removing the unfinished result');
    expect(await readdir(join(dir, 'prepared'))).toEqual([]);
  });
});

describe('a closed pipe', () => {
  /** Runs a line of shell with the program as `$CLI`. */
  const shell = (line: string): Promise<Outcome> =>
    new Promise((resolve) => {
      const env = { ...process.env, CLI: `${process.execPath} ${bin}` };
      const child = spawn('bash', ['-c', line], { cwd: dir, env });
      let [stdout, stderr] = ['', ''];
      child.stdout.on('data', (part: Buffer) => (stdout += part));
      child.stderr.on('data', (part: Buffer) => (stderr += part));
      child.on('close', (code) => resolve({ code, stdout, stderr }));
    });

  it('for messages lets a run go on to its end', async () => {
    const flags = ['--data', 'small', '--out', 'unheard', '--nosubdir', '--tick-kimg', '0.02'];
    const { child, until, end } = start(...TRAIN, ...flags, '--duration-kimg', '0.2');
    await until('tick 0');
    child.stderr!.destroy();
    expect(await end).toMatchObject({ code: 0, stdout: 'unheard\n' });
    expect(await readRun('unheard')).toMatchObject({ status: 'done' });
  });

  it('for results ends quietly', async () => {
    expect(await shell('set -o pipefail; $CLI --help | true')).toEqual({
      code: 0,
      stdout: '',
      stderr: '',
    });
  });

  it.runIf(process.platform === 'linux')('is not a full disk, which is told in one line', async () => {
    expect(await shell('$CLI --help > /dev/full')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'error: cannot write to standard output: ENOSPC: no space left on device, write\n',
    });
  });
});

describe('demo', () => {
  const demo = (out: string, ...more: string[]) =>
    start('demo', '--data', 'small', '--device', 'cpu', '--out', out, ...more);
  const sheetOf = (out: string) => sharp(join(dir, out, 'demo.png')).metadata();
  const GO_ON = /patch-diffusion train --resume (\S+) --max-sec 600/;

  it('writes a sheet and says what to do next', async () => {
    const { code, stdout, stderr } = await demo('shown', '--minutes', '0.05').end;
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: 'shown/demo.png\n' });
    expect(stderr).toContain('for 3s on small');
    expect(stderr).toMatch(GO_ON);
    expect(stderr).toMatch(/patch-diffusion prepare \.\/photos --out photos-64\.zip/);
    // 16 samples of 32 px, twice enlarged, beside 8 real images; two rows with labels.
    expect(await sheetOf('shown')).toMatchObject({ width: 16 * 64 + 24, height: 2 * (24 + 64 + 12) + 12 });
    expect((await readRun(GO_ON.exec(stderr)![1])).config).toMatchObject({
      preset: 'tiny',
      seed: 0,
      maxSec: 3,
    });
  });

  it('without data draws faces, and what the ready-made networks make of them', async () => {
    const { code, stderr } = await start('demo', '--device', 'cpu', '--out', 'faces', '--minutes', '0.02')
      .end;
    expect(code, stderr).toBe(0);
    expect(stderr).toContain('generate --network avatars-32');
    // Real faces, a row of each ready-made network and samples: 16 pictures enlarged to 64 px.
    const rows = 2 + READY_MADE.length;
    expect(await sheetOf('faces')).toMatchObject({
      ...{ width: 16 * 64 + 24, height: rows * (24 + 64 + 12) + 12 },
    });
  });

  it('that is interrupted writes the sheet of what there is', async () => {
    const { child, until, end } = demo('stopped');
    await until('tick 0');
    child.kill('SIGINT');
    const { code, stdout, stderr } = await end;
    expect({ code, stdout }, stderr).toEqual({ code: 130, stdout: 'stopped/demo.png\n' });
    expect(stderr).toMatch(/^interrupted; state saved/m);
    expect(await readRun(GO_ON.exec(stderr)![1])).toMatchObject({ status: 'interrupted' });
    expect(await sheetOf('stopped')).toMatchObject({ height: 24 + 64 + 12 + 12 });
  });
});
