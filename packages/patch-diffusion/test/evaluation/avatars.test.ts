/** Exact measures of pixel-art avatars: what is valid and what is not, what is seen, what is a copy. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Mt19937 } from '../../src/common/mt19937.js';
import { resolveAvatarOptions } from '../../src/config/avatar-options.js';
import { resolveEvaluateOptions } from '../../src/config/evaluate-options.js';
import { encodePng } from '../../src/data/png.js';
import { fitAvatar } from '../../src/evaluation/avatars/fit.js';
import { findAvatar, MATCH } from '../../src/evaluation/avatars/metric.js';
import { AREA, loadParts, PARTS, type Part, SIDE } from '../../src/evaluation/avatars/sprites.js';
import { evaluateAll } from '../../src/evaluation/evaluate.js';
import { avatarOf, drawSvg, writeAvatars } from '../../src/prepare/avatars.js';
import { createDatasetWriter } from '../../src/prepare/dataset-writer.js';
import { iconSet } from '../helpers/tiny-run.js';

/** Held-out avatars, RGB row by row. */
const COUNT = 200;
let parts: readonly Part[];
let avatars: Uint8Array[];
const random = new Mt19937(12);
const uniform = () => random.nextUint32() / 2 ** 32;

beforeAll(async () => {
  parts = await loadParts();
  const seeds = Array.from({ length: COUNT }, (_, i) => 1_000_000 + i);
  avatars = await Promise.all(
    seeds.map(async (seed) => (await drawSvg(avatarOf('pixel-art', seed).svg, SIDE)).data),
  );
});

/** [H, W, 3] → [3, H, W] */
const planes = (rows: ArrayLike<number>) =>
  Uint8Array.from({ length: 3 * AREA }, (_, i) => rows[3 * (i % AREA) + Math.floor(i / AREA)]);
const isValid = (rows: ArrayLike<number>) => findAvatar(planes(rows), parts).isValid;
const share = (images: readonly ArrayLike<number>[]) => images.filter(isValid).length / images.length;

/** Gaussian blur of one pixel. */
function blurred(rows: Uint8Array): number[] {
  return Array.from(rows, (_, j) => {
    const [c, x, y] = [j % 3, Math.floor(j / 3) % SIDE, Math.floor(j / 3 / SIDE)];
    let sum = 0;
    let total = 0;
    for (let dy = -2; dy <= 2; dy++) {
      for (let dx = -2; dx <= 2; dx++) {
        const [u, v] = [Math.min(SIDE - 1, Math.max(0, x + dx)), Math.min(SIDE - 1, Math.max(0, y + dy))];
        const weight = Math.exp(-(dx * dx + dy * dy) / 2);
        sum += weight * rows[3 * (v * SIDE + u) + c];
        total += weight;
      }
    }
    return sum / total;
  });
}

/** Noise in place of one of the visible parts. */
function withNoise(rows: Uint8Array): Uint8Array {
  const { owner } = fitAvatar(rows, parts, MATCH);
  const shown = [...new Set(owner)];
  const part = shown[Math.floor(uniform() * shown.length)];
  return rows.map((value, j) => (owner[Math.floor(j / 3)] === part ? Math.floor(256 * uniform()) : value));
}

describe('validity', () => {
  it('is that of real avatars, and of nothing that only resembles them', () => {
    expect(share(avatars)).toBeGreaterThanOrEqual(0.99);
    expect(share(avatars.slice(0, 100).map(blurred))).toBeLessThanOrEqual(0.05);
    expect(share(avatars.slice(0, 100).map(withNoise))).toBeLessThanOrEqual(0.05);
    const mean = Array.from(avatars[0], (_, j) => avatars.reduce((sum, rows) => sum + rows[j], 0) / COUNT);
    expect(isValid(mean)).toBe(false);
  });

  it('allows for the slight noise of a sample', () => {
    const noisy = avatars
      .slice(0, 50)
      .map((rows) => rows.map((v) => Math.min(255, Math.max(0, v + 16 * uniform() - 8))));
    expect(share(noisy)).toBe(1);
  });
});

describe('parts', () => {
  it('are those that the avatar was drawn with, where they are seen', () => {
    let compared = 0;
    for (const [i, rows] of avatars.slice(0, 100).entries()) {
      const { traits } = avatarOf('pixel-art', 1_000_000 + i);
      const { sprites, visible, distances } = fitAvatar(rows, parts, 4);
      expect(Math.max(...distances)).toBeLessThan(2);
      for (const [p, { name, isOptional }] of parts.entries()) {
        if (name === 'background' || name === 'skin' || visible[p] < 8) continue;
        const found = parts[p].sprites[sprites[p]].shape.variant;
        // Clothes without sleeves can look alike beneath long hair.
        if (name === 'clothing') continue;
        expect(found, `${name} of ${i}`).toBe(traits[name]);
        compared += isOptional ? 10 : 1;
      }
    }
    expect(compared).toBeGreaterThan(100);
  });

  it('tell by how much their colours are off', () => {
    const p = PARTS.indexOf('background');
    const rows = avatars[0];
    const { owner, colourErrors } = fitAvatar(rows, parts, 4);
    expect(colourErrors[p]).toBeLessThan(1);
    const shifted = rows.map((value, j) => (owner[Math.floor(j / 3)] === p ? value - 6 : value));
    expect(fitAvatar(shifted, parts, 4).colourErrors[p]).toBeCloseTo(6, 0);
  });
});

describe('evaluate', () => {
  let dir: string;
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'patch-diffusion-avatar-metric-'));
    process.env.PATCH_DIFFUSION_CACHE = join(dir, 'cache');
  });
  afterAll(() => rm(dir, { recursive: true, force: true }));
  const evaluate = async (call: Record<string, unknown>) =>
    (await evaluateAll(resolveEvaluateOptions({ call: { count: 100, threads: 1, ...call } })))[0];

  /** Images as a dataset. */
  async function write(name: string, images: readonly ArrayLike<number>[]): Promise<string> {
    const out = join(dir, name);
    const writer = await createDatasetWriter(out);
    for (const [i, rows] of images.entries()) {
      const image = { data: Uint8Array.from(rows), width: SIDE, height: SIDE, channels: 3 };
      await writer.add(`00000/img${String(i).padStart(8, '0')}.png`, encodePng(image));
    }
    await writer.finish();
    return out;
  }

  it('counts valid ones, new ones and copies where the data are avatars', async () => {
    const [trainData, data] = [join(dir, 'training.zip'), join(dir, 'real.zip')];
    await writeAvatars(resolveAvatarOptions({ call: { out: trainData, count: 30 } }));
    await writeAvatars(resolveAvatarOptions({ call: { out: data, count: 30, firstSeed: 2_000_000 } }));
    const copies = await Promise.all(
      Array.from(
        { length: 10 },
        async (_, seed) => (await drawSvg(avatarOf('pixel-art', seed).svg, SIDE)).data,
      ),
    );
    const broken = avatars.slice(0, 10).map(blurred);
    const images = await write('samples.zip', [...avatars.slice(20, 40), ...copies, ...broken]);
    const { metrics } = await evaluate({ images, data, trainData });
    expect(metrics.avatarValidity).toMatchObject({ value: 0.75, n: 40, floor: 1, floorN: 30 });
    expect(metrics.avatarCopies).toMatchObject({ value: 0.25, n: 40 });
    expect(metrics.avatarNovelty?.value).toBeCloseTo(2 / 3, 10);
    expect(metrics.avatarNovelty?.n).toBe(30);
    expect(metrics.avatarCoverage?.value).toBeGreaterThan(0.2);
    expect(metrics.avatarCoverage?.value).toBeLessThan(0.9);
    expect(metrics.avatarColourError?.floor).toBeLessThan(1);
  });

  it('leaves them out for other images, and refuses them when they are asked for', async () => {
    const icons = await iconSet(dir);
    const { metrics } = await evaluate({ images: icons, data: icons, count: 8, metrics: null });
    expect(Object.keys(metrics)).not.toContain('avatarValidity');
    await expect(evaluate({ images: icons, data: icons, count: 8, metrics: ['avatars'] })).rejects.toThrow(
      /not pixel-art avatars/,
    );
  });
});
