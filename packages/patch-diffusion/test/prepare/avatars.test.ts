import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resolveAvatarOptions } from '../../src/config/avatar-options.js';
import { openImages } from '../../src/data/open-images.js';
import { AVATAR_BACKGROUNDS, avatarOf, drawSvg, writeAvatars } from '../../src/prepare/avatars.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-avatars-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

const options = (call: Record<string, unknown>) => resolveAvatarOptions({ call });
const sha256 = async (file: string) =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex');

/** All images of a dataset, as bytes. */
async function pixelsOf(file: string) {
  const set = await openImages(file);
  const indices = Array.from({ length: set.length }, (_, i) => i);
  await set.ready(indices);
  const size = { height: set.height, width: set.width };
  const all = indices.map((i) =>
    Buffer.from(set.gather([i], { size, rows: [0], cols: [0] })).toString('hex'),
  );
  const labels = set.labelDim > 0 ? set.labels(indices) : null;
  const { channels, height, width, classNames } = set;
  await set.close();
  return { all, labels, channels, height, width, classNames };
}

describe('avatars', () => {
  it('are the same for the same seeds, and others for others', async () => {
    const [a, b, c, shifted] = ['a.zip', 'b.zip', 'c.zip', 'd.zip'].map((name) => join(scratch, name));
    await writeAvatars(options({ out: a, count: 40 }));
    await writeAvatars(options({ out: b, count: 40 }));
    const held = await writeAvatars(options({ out: c, count: 40, heldOut: true }));
    await writeAvatars(options({ out: shifted, count: 30, firstSeed: 10 }));
    expect(await sha256(a)).toBe(await sha256(b));
    expect([held.firstSeed, held.lastSeed]).toEqual([1_000_000, 1_000_039]);
    const [first, heldOut, tail] = await Promise.all([a, c, shifted].map(pixelsOf));
    expect([first.channels, first.height, first.width]).toEqual([3, 16, 16]);
    expect(new Set([...first.all, ...heldOut.all]).size).toBe(80);
    expect(tail.all).toEqual(first.all.slice(10));
  });

  it('have the labels of what they wear, when asked for', async () => {
    const out = join(scratch, 'labelled.zip');
    const report = await writeAvatars(options({ out, count: 60, labels: true }));
    const { labels, classNames } = await pixelsOf(out);
    expect(classNames).toEqual(['hat', 'glasses', 'beard', 'plain']);
    expect(report.classNames).toEqual(classNames);
    for (let seed = 0; seed < 60; seed++) {
      const { traits } = avatarOf('pixel-art', seed);
      const name = traits.hat ? 'hat' : traits.glasses ? 'glasses' : traits.beard ? 'beard' : 'plain';
      const oneHot = labels?.subarray(4 * seed, 4 * seed + 4);
      expect(classNames?.[oneHot?.indexOf(1) ?? -1]).toBe(name);
    }
  });

  it('are drawn in every style and size, on their background', async () => {
    for (const [style, sidePx] of [
      ['pixel-art', 16],
      ['open-peeps', 32],
      ['open-peeps', 50],
    ] as const) {
      const { data, width, height, channels } = await drawSvg(avatarOf(style, 3).svg, sidePx);
      expect([width, height, channels]).toEqual([sidePx, sidePx, 3]);
      const corner = Buffer.from(data.subarray(0, 3)).toString('hex');
      expect(AVATAR_BACKGROUNDS).toContain(corner);
    }
  });

  it('leave nothing behind when stopped, and replace nothing unasked', async () => {
    const out = join(scratch, 'stopped.zip');
    await expect(writeAvatars(options({ out }), { signal: AbortSignal.abort() })).rejects.toThrow();
    expect((await readdir(scratch)).filter((name) => name.includes('stopped'))).toEqual([]);
    await writeAvatars(options({ out, count: 2 }));
    await expect(writeAvatars(options({ out, count: 2 }))).rejects.toMatchObject({ code: 'OUT_EXISTS' });
  });

  it.each([
    [{}, /--out/],
    [{ out: 'a.zip', count: 0 }, /count/],
    [{ out: 'a.zip', style: 'cubist' }, /style/],
    [{ out: 'a.zip', firstSeed: 3, heldOut: true }, /exclude each other/],
    [{ out: 'a.zip', count: 1_000_001 }, /seeds for training end/],
  ])('%o is a mistake of the caller', (given, message) => {
    expect(() => options(given)).toThrow(message);
  });
});
