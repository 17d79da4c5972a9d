/** Images that are not square, and images with transparency, all the way from files to samples. */
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { readSnapshotInfo, train } from '../../src/index.js';
import { runCli, temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';

let dir: string;
let photos: string;

/** Photos of 60×40 pixels: a bright bar whose place changes, transparent beside it. */
beforeAll(async () => {
  dir = await temporaryFolder();
  photos = join(dir, 'photos');
  await mkdir(photos);
  for (let i = 0; i < 12; i++) {
    const pixels = Buffer.alloc(60 * 40 * 4);
    for (let p = 0; p < 60 * 40; p++) {
      const isBar = Math.abs((p % 60) - 4 * i - 8) < 5;
      pixels.set(isBar ? [250, 40 + 10 * i, 30, 255] : [0, 0, 0, 0], 4 * p);
    }
    await sharp(pixels, { raw: { width: 60, height: 40, channels: 4 } })
      .png()
      .toFile(join(photos, `${i}.png`));
  }
});

const flags = (out: string, ...more: string[]) => {
  const { length } = tinyFlags;
  const rest = Array.from({ length }, (_, i) => i).filter(
    (i) => tinyFlags[i] !== '--resolution' && tinyFlags[i - 1] !== '--resolution',
  );
  return [...rest.map((i) => tinyFlags[i]), '--out', join(dir, out), '--nosubdir', ...more];
};

async function run(...args: string[]) {
  const outcome = await runCli(args);
  expect(outcome.code, outcome.stderr).toBe(0);
  return outcome;
}

describe('wide images', () => {
  it('from prepare to train to generate', async () => {
    const zip = join(dir, 'wide.zip');
    const prepared = await run('prepare', photos, '--out', zip, '--resolution', '32x16');
    expect(prepared.stdout).toContain('32×16 px, 3 channels');
    expect((await run('info', zip)).stdout).toContain('32×16');

    const trained = await run(
      'train',
      '--data',
      zip,
      ...flags('wide', '--duration-kimg', '0.2', '--tick-kimg', '0.1', '--holdout', '2', '--real-p', '0.5'),
    );
    expect(trained.stderr).toContain('8×4 (20 %');
    expect(trained.stderr).toMatch(/p32x16 \d/);
    const lines = (await readFile(join(dir, 'wide/stats.jsonl'), 'utf8')).trim().split('\n');
    const keys = lines.flatMap((line) => Object.keys(JSON.parse(line)));
    expect(keys).toEqual(expect.arrayContaining(['Loss/p8x4', 'Loss/p16x8', 'Loss/p32x16', 'Loss/held_out']));

    const [sheet] = await readdir(join(dir, 'wide/samples'));
    expect(await sharp(join(dir, 'wide/samples', sheet)).metadata()).toMatchObject({
      width: 64,
      height: 32,
    });
    const [name] = await readdir(join(dir, 'wide/snapshots'));
    const snapshot = join(dir, 'wide/snapshots', name);
    expect((await readSnapshotInfo(snapshot)).precond).toMatchObject({
      image: { width: 32, height: 16 },
      network: { imgResolution: 32 },
    });
    expect((await run('info', snapshot)).stdout).toContain('32×16 px');

    const sample = async (...more: string[]) => {
      const out = join(dir, `out-${more.join('')}`);
      await run(
        ...['generate', '--network', snapshot, '--count', '1', '--steps', '2', '--out', out, ...more],
      );
      const { width, height, channels } = await sharp(join(out, '000000.png')).metadata();
      return [width, height, channels];
    };
    expect(await sample()).toEqual([32, 16, 3]);
    expect(await sample('--image-size', '48x24', '--precision', 'bf16')).toEqual([48, 24, 3]);
    expect(await sample('--image-size', '20')).toEqual([20, 20, 3]);
    const refused = await runCli(['generate', '--network', snapshot, '--image-size', '33x16']);
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.stderr).toMatch(/--image-size 33x16 .* multiples of 2, such as (32|34)x16/);
  });

  it('are cropped to the proportions that train is told; squares of patches stay squares', async () => {
    const data = ['train', '--data', photos, '--duration-kimg', '0.05'];
    const { stderr } = await run(
      ...data,
      ...flags('sized', '--resolution', '16x32', '--patch-sizes', '8,16,32', '--real-p', '0.5'),
    );
    expect(stderr).toContain('16×32 px');
    expect(stderr).toContain(
      'Patches:     8×8 (20 %, 4× the batch), 16×16 (30 %, 2× the batch), 16×32 (50 %), stratified',
    );
    const wrong = await runCli([...data, ...flags('never', '--resolution', '30x17')]);
    expect(wrong).toMatchObject({ code: 2 });
    expect(wrong.stderr).toContain('images of 30×17 px');
    expect(wrong.stderr).toContain('--resolution 30x16 or 30x18');
    const resumed = await runCli(['train', '--resume', join(dir, 'sized'), '--resolution', '32']);
    expect(resumed).toMatchObject({ code: 2 });
    expect(resumed.stderr).toContain('--resolution is fixed by the run (16x32, not 32)');
  });
});

it('images with transparency keep it, when told to', async () => {
  const zip = join(dir, 'rgba.zip');
  const { stdout } = await run('prepare', photos, '--out', zip, '--resolution', '32x16', '--channels', '4');
  expect(stdout).toContain('32×16 px, 4 channels');
  expect((await run('info', zip)).stdout).toContain('colour with transparency');
  const { stderr } = await run('train', '--data', zip, ...flags('rgba', '--duration-kimg', '0.05'));
  expect(stderr).toContain('32×16 px, 4 channels');
  const out = join(dir, 'rgba-images');
  await run('generate', '--run', join(dir, 'rgba'), '--count', '1', '--steps', '2', '--out', out);
  expect(await sharp(join(out, '000000.png')).metadata()).toMatchObject({
    channels: 4,
    width: 32,
    height: 16,
  });
  // Without --channels, transparency of photos lies over white as before.
  expect(
    (await run('prepare', photos, '--out', join(dir, 'rgb.zip'), '--resolution', '16')).stdout,
  ).toContain('3 channels');
});

it('training in bfloat16 follows float32', async () => {
  const lossOf = async (precision: 'fp32' | 'bf16') => {
    const means: number[] = [];
    await train(
      {
        ...{ data: photos, preset: 'tiny', resolution: { width: 32, height: 16 }, modelChannels: 16 },
        ...{ channelMult: [1, 2], attnResolutions: [8], batch: 8, samples: 1, sampleSteps: 2, seed: 3 },
        ...{ durationKimg: 0.6, tickKimg: 0.15, out: join(dir, precision), nosubdir: true, precision },
        threads: 1,
      },
      { onEvent: (event) => event.type === 'tick' && means.push(event.loss) },
    );
    return means;
  };
  const [exact, half] = [await lossOf('fp32'), await lossOf('bf16')];
  expect(half).toHaveLength(exact.length);
  for (const [i, loss] of exact.entries())
    expect(Math.abs(half[i] / loss - 1), `tick ${i}`).toBeLessThan(0.05);
  expect(half.at(-1)!).toBeLessThan(half[0] * 0.9);
});
