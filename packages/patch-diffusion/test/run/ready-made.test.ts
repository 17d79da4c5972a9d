/** The networks that come with the package: they are there, small, open without a word of where they were made, and work. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { sampleImages, toUint8 } from '../../src/diffusion/sample.js';
import { train } from '../../src/index.js';
import { exportSnapshot } from '../../src/interchange/export.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import { chooseSnapshot, snapshotAt } from '../../src/run/choose-snapshot.js';
import { READY_MADE, readyMadeNetwork } from '../../src/run/ready-made.js';
import { readSnapshotInfo } from '../../src/run/snapshot-info.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

const fileOf = (name: string) => readyMadeNetwork(name) ?? '';

describe('ready-made networks', () => {
  it('take at most 8 MB', () => {
    const sizes = READY_MADE.map((name) => statSync(fileOf(name)).size);
    expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(8e6);
  });

  it.each(READY_MADE)('%s names no folder of the machine that trained it, and its licence', async (name) => {
    const bytes = readFileSync(fileOf(name));
    const header = bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0)));
    expect(header).not.toMatch(/"[^"]*(\/tmp\/|\/home\/|\/work\/|[A-Z]:\\)/);
    expect(JSON.parse(header).__metadata__.license).toMatch(/^Apache-2\.0/);
    const info = await readSnapshotInfo(fileOf(name));
    expect(info.dataset.name).toBe(name);
  });

  it.each(READY_MADE)('%s is found by its name, and draws', async (name) => {
    const file = await chooseSnapshot({ run: null, network: name });
    expect(await snapshotAt(name)).toBe(file);
    const { denoiser } = await loadAnySnapshot(file);
    const side = Number(/\d+$/.exec(name)?.[0]);
    expect(denoiser.imageExtent).toEqual({ height: side, width: side });
    const labels = denoiser.labelDim > 0 ? [0] : null;
    using images = await sampleImages(denoiser, { seeds: [0, 1], numSteps: 4, labels });
    const pixels = toUint8(images);
    expect(new Set(pixels).size).toBeGreaterThan(50);
    denoiser.dispose();
  });

  it('are named where another one is not found', async () => {
    await expect(chooseSnapshot({ run: null, network: 'avatars-61' })).rejects.toMatchObject({
      exitCode: 2,
      message: expect.stringMatching(/neither a file nor .*avatars-16/),
    });
    expect(readyMadeNetwork('photos.safetensors')).toBe(null);
  });

  it('are what a training begins with, and can be exported', async () => {
    const dir = await temporaryFolder();
    const data = await iconSet(dir);
    const notes: string[] = [];
    const network = { preset: 'tiny', modelChannels: 32, channelMult: [1, 2, 2], attnResolutions: [8] };
    await train(
      {
        ...{ ...tinyOptions, ...network, data, out: join(dir, 'run') },
        ...{ transfer: 'avatars-16', durationKimg: 0.032 },
      },
      { onEvent: (event) => event.type === 'transfer' && notes.push(event.message) },
    );
    expect(notes).toEqual(['transferred 208 tensors from avatars-16']);
    const out = join(dir, 'avatars.pt');
    const { files } = await exportSnapshot({ network: 'avatars-16', format: 'torch', out });
    expect(files[0]).toBe(out);
  });
});
