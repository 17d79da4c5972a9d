/** Training on latents with the real command line: encode, train, resume exactly, generate decoded images. */
import { cp, readdir, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { SafetensorsFile } from '@patch-diffusion/torch';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSnapshotInfo } from '../../src/run/snapshot-info.js';
import { writeRamps, writeTinyAutoencoder } from '../helpers/tiny-autoencoder.js';
import { runCli, temporaryFolder } from '../helpers/tiny-run.js';

let dir: string;
let photos: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  photos = await writeRamps(join(dir, 'photos'), 32, { width: 64, height: 64, classes: 2 });
  await writeTinyAutoencoder(join(dir, 'vae'));
});

/** A network for 16×16 latents whose update takes a few hundredths of a second. */
const flags = [
  ...['--preset', 'tiny', '--model-channels', '8', '--channel-mult', '1,2', '--attn-resolutions', '8'],
  ...['--batch', '8', '--samples', '4', '--sample-steps', '3', '--seed', '7', '--threads', '1'],
];

const encode = (name: string, ...more: string[]) =>
  runCli([
    'prepare',
    photos,
    '--latents',
    '--autoencoder',
    join(dir, 'vae'),
    '--out',
    join(dir, name),
    ...more,
  ]);

const train = (data: string, out: string, kimg: number, ...more: string[]) =>
  runCli([
    ...['train', '--data', join(dir, data), ...flags, '--out', join(dir, out), '--nosubdir'],
    ...['--duration-kimg', String(kimg), ...more],
  ]);

async function newest(run: string, folder: string): Promise<string> {
  const path = join(dir, run, folder);
  return join(path, (await readdir(path)).sort().at(-1)!);
}

const sizeOf = async (file: string) => {
  const { width, height, channels } = await sharp(file).metadata();
  return [width, height, channels];
};

describe('latents', () => {
  it('are encoded once, with a report', async () => {
    const { code, stdout, stderr } = await encode('latents.safetensors', '--xflip', 'true');
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/32 images, latents of 16×16, 4 channels, 2 classes, .*standard deviation \d/);
    expect(await encode('latents.safetensors')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--force'),
    });
  });

  it('are described by info', async () => {
    const { stdout } = await runCli(['info', join(dir, 'latents.safetensors')]);
    expect(stdout).toMatch(/Kind +latents[\s\S]*16×16, of images of 64×64 px[\s\S]*2 classes/);
  });

  it('are trained on, with sample sheets of images', async () => {
    const { code, stderr } = await train(
      'latents.safetensors',
      'run',
      0.2,
      '--xflip',
      'true',
      '--train_on_latents',
      '1',
      '--holdout',
      '4',
    );
    expect(code, stderr).toBe(0);
    expect(await sizeOf(await newest('run', 'samples'))).toEqual([128, 128, 3]);
    const info = await readSnapshotInfo(await newest('run', 'snapshots'));
    expect(info.precond.network).toMatchObject({ imgResolution: 16, inChannels: 6, outChannels: 4 });
    expect(info.latents).toMatchObject({
      scale: 0.18215,
      downFactor: 4,
      autoencoder: { path: join(dir, 'vae') },
    });
    const stats = await readFile(join(dir, 'run/stats.jsonl'), 'utf8');
    expect(Object.keys(JSON.parse(stats.split('\n')[0]))).toContain('Loss/held_out');
  });

  it('resume exactly', async () => {
    // What moves over a run depends on its length.
    const steady = ['--schedule', 'stratified', '--lr-cooldown', '0', '--immiscible', '4'];
    await train('latents.safetensors', 'whole', 0.2, ...steady);
    await train('latents.safetensors', 'halves', 0.1, ...steady);
    const resumed = await runCli(['train', '--resume', join(dir, 'halves'), '--duration-kimg', '0.2']);
    expect(resumed.code, resumed.stderr).toBe(0);
    const files = [await newest('whole', 'state'), await newest('halves', 'state')].map((f) =>
      SafetensorsFile.openSync(f),
    );
    for (const name of files[0].names) {
      const [a, b] = files.map((file) => file.bytes(name));
      expect(Buffer.compare(a, b), name).toBe(0);
    }
    for (const file of files) await file.close();
  });

  it('are generated and decoded, in any window', async () => {
    const out = join(dir, 'images');
    const generate = (...more: string[]) =>
      runCli([
        'generate',
        '--run',
        join(dir, 'run'),
        '--count',
        '3',
        '--batch',
        '2',
        '--out',
        out,
        '--threads',
        '1',
        ...more,
      ]);
    const whole = await generate('--grid', join(dir, 'sheet.png'), '--on_latents', '1');
    expect(whole.code, whole.stderr).toBe(0);
    expect(await readdir(out)).toHaveLength(3);
    expect(await sizeOf(join(out, '000002.png'))).toEqual([64, 64, 3]);
    expect(await sizeOf(join(dir, 'sheet.png'))).toEqual([280, 340, 3]);
    expect((await generate('--image-size', '96', '--x-start', '-16', '--y-start', '-16')).code).toBe(0);
    expect(await sizeOf(join(out, '000000.png'))).toEqual([96, 96, 3]);
    expect(await generate('--image-size', '60')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('multiples of 8'),
    });
    expect(await generate('--x-start', '2')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('multiple of 4'),
    });
  });

  it('ask for the autoencoder when it has moved', async () => {
    const moved = join(dir, 'vae-moved');
    await rename(join(dir, 'vae'), moved);
    const generate = (...more: string[]) =>
      runCli(['generate', '--run', join(dir, 'run'), '--count', '1', '--out', join(dir, 'moved'), ...more]);
    expect(await generate()).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no longer in .*--autoencoder FOLDER/),
    });
    expect((await generate('--autoencoder', moved)).code).toBe(0);
    expect(await train('latents.safetensors', 'no-run', 0.1)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('--autoencoder'),
    });
    await writeTinyAutoencoder(join(dir, 'f2'), { blockOutChannels: [8, 8] });
    const other = await generate('--autoencoder', join(dir, 'f2'));
    expect(other).toMatchObject({ code: 2, stderr: expect.stringMatching(/1\/2 of the side.*1\/4/) });
    await cp(moved, join(dir, 'vae'), { recursive: true });
  });

  it('may be of any proportions, and of a measured spread', async () => {
    expect((await encode('wide.safetensors', '--resolution', '64x32')).code).toBe(0);
    const { code, stderr } = await train('wide.safetensors', 'wide', 0.1, '--sigma-data', 'auto');
    expect(code, stderr).toBe(0);
    expect(await sizeOf(await newest('wide', 'samples'))).toEqual([128, 64, 3]);
    const { precond, loss } = await readSnapshotInfo(await newest('wide', 'snapshots'));
    expect(precond).toMatchObject({ image: { height: 8, width: 16 }, sigmaData: expect.any(Number) });
    expect((loss as { sigmaData: number }).sigmaData).toBe((precond as { sigmaData: number }).sigmaData);
  });

  it('are not mixed up with images', async () => {
    const images = await train('photos', 'no-run', 0.1, '--latents', 'true');
    expect(images).toMatchObject({ code: 2, stderr: expect.stringContaining('prepare') });
    const latents = await train('latents.safetensors', 'no-run', 0.1, '--train_on_latents', '0');
    expect(latents).toMatchObject({ code: 2, stderr: expect.stringContaining('holds latents') });
  });

  it('have published presets', async () => {
    const args = [
      'train',
      '--data',
      join(dir, 'latents.safetensors'),
      '--preset',
      'imagenet-256',
      // The time of a step is measured: a narrow network says it soon.
      ...['--model-channels', '32'],
      '--dry-run',
    ];
    const { code, stdout, stderr } = await runCli(args);
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/Latents +32 of 16×16 px, 4 channels, of images of 64×64 px/);
    expect(stdout).toMatch(/Patches +8×8 \(50 %, 2× the batch\), 16×16 \(50 %\)/);
    expect(stdout).toMatch(/"latents": true/);
  });
});
