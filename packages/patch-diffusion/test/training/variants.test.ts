/** Every architecture, preconditioning and kind of augmentation trains, and every sampler and guidance draws from it. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { generate, readSnapshotInfo, train } from '../../src/index.js';
import type { GenerateEvent } from '../../src/sampling/generate.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

/** Some updates of a small network. */
function trainVariant(name: string, options: TrainOptionsInput) {
  return train({
    ...tinyOptions,
    data,
    durationKimg: 0.1,
    out: join(dir, name),
    ...options,
  });
}

const sampleCount = 2;
async function draw(run: string, options: Parameters<typeof generate>[0] = {}) {
  const events: GenerateEvent[] = [];
  const out = join(dir, 'images', String(Math.random()));
  const { files } = await generate(
    { run, out, count: sampleCount, steps: 4, ...options },
    { onEvent: (event) => events.push(event) },
  );
  const pixels = await Promise.all(files.map((file) => sharp(file).raw().toBuffer()));
  expect(pixels).toHaveLength(sampleCount);
  for (const image of pixels) expect(image).toHaveLength(16 * 16 * 3);
  return { pixels: Buffer.concat(pixels), warnings: events.filter((event) => event.type === 'warning') };
}

describe('training', () => {
  it.each(['ddpmpp', 'ncsnpp', 'adm'] as const)('%s trains and samples', async (arch) => {
    const { runDir } = await trainVariant(arch, { arch });
    await draw(runDir);
  });

  it.each(['edm', 'vp', 've'] as const)(
    '--precond %s trains on whole images without coordinates',
    async (precond) => {
      const { runDir, snapshot } = await trainVariant(precond, { precond });
      const info = await readSnapshotInfo(snapshot!);
      expect(info.precond).toMatchObject({ type: precond, network: { inChannels: 3, outChannels: 3 } });
      expect(info.loss.type).toBe(precond);
      const lines = (await readFile(join(runDir, 'stats.jsonl'), 'utf8')).trim().split('\n');
      expect(Number.isFinite(JSON.parse(lines.at(-1)!)['Loss/loss'].mean)).toBe(true);
      await draw(runDir, { maskPos: true });
    },
  );

  it.each(['patch', 'image'] as const)('augments at the %s', async (augmentAt) => {
    const { runDir, snapshot } = await trainVariant(`augment-${augmentAt}`, { augment: 0.5, augmentAt });
    const info = await readSnapshotInfo(snapshot!);
    expect(info.precond.network.augmentDim).toBe(9);
    await draw(runDir);
  });
});

describe('consistency tuning', () => {
  it('starts from a trained network and samples in two steps', async () => {
    const { runDir: trained } = await trainVariant('to-tune', {});
    const tuning = { objective: 'ect', transfer: trained, dropout: 0.1, durationKimg: 0.08 } as const;
    const whole = await trainVariant('tuned', tuning);
    const info = await readSnapshotInfo(whole.snapshot!);
    expect(info.train).toMatchObject({ objective: 'ect', lr: 1e-4, sampler: 'ect', sampleSteps: 2 });
    await draw(whole.runDir);
  });

  it.each([
    [{}, /tunes a trained network; add --transfer RUN/],
    [{ transfer: 'x', sigmaSampling: 'info' as const }, /--sigma-sampling info/],
    [{ transfer: 'x', precond: 'vp' as const }, /pedm and edm/],
  ])('refuses %o', async (options, message) => {
    await expect(trainVariant('refused', { objective: 'ect', ...options })).rejects.toThrow(message);
  });
});

describe('generating', () => {
  let run: string;
  beforeAll(async () => {
    // Fast enough that the class shows.
    const eager = { lr: 5e-3, lrRampupKimg: 0, emaHalflifeKimg: 0, durationKimg: 0.3 };
    run = (await trainVariant('conditional', { cond: true, ...eager })).runDir;
  });

  it('all samplers go', async () => {
    const edm = await draw(run, { sampler: 'edm' });
    const recorded = await draw(run);
    for (const sampler of ['generalised', 'dpmpp-2m', 'dpmpp-2m-sde', 'ect'] as const) {
      const { pixels } = await draw(run, { sampler });
      // With its defaults the generalised sampler is EDM's.
      if (sampler === 'generalised') expect(pixels.equals(edm.pixels)).toBe(true);
      else expect(pixels.equals(edm.pixels)).toBe(false);
      expect(pixels.equals(recorded.pixels)).toBe(sampler === 'dpmpp-2m-sde');
    }
    await draw(run, { discretization: 'vp', schedule: 'vp', scaling: 'vp', solver: 'euler' });
  });

  it('guides by class, with a warning where labels were never dropped', async () => {
    const plain = await draw(run, { class: 2 });
    const guided = await draw(run, { class: 2, cfg: 10 });
    expect(plain.warnings).toEqual([]);
    expect(guided.pixels.equals(plain.pixels)).toBe(false);
    expect(guided.warnings).toMatchObject([{ code: 'NO_LABEL_DROPOUT' }]);
    // Outside of the interval nothing changes (churn raises the first level above 80).
    const never = await draw(run, { class: 2, cfg: 10, cfgInterval: [1000, 2000] });
    expect(never.pixels.equals(plain.pixels)).toBe(true);
    const { runDir } = await trainVariant('dropping', { cond: true, labelDropout: 0.2 });
    expect((await draw(runDir, { cfg: 10 })).warnings).toEqual([]);
  });

  it('guides by a worse network', async () => {
    const { snapshot: guide } = await trainVariant('worse', { durationKimg: 0.02 });
    const plain = await draw(run, { class: 2 });
    const guided = await draw(run, { class: 2, cfg: 2, guide });
    expect(guided.pixels.equals(plain.pixels)).toBe(false);
    expect(guided.warnings).toEqual([]);
    const { snapshot: small } = await trainVariant('small', { resolution: 32, durationKimg: 0.02 });
    await expect(draw(run, { cfg: 2, guide: small })).rejects.toThrow(/--guide .* makes images of 32×32×3/);
  });

  it('refuses what a network cannot do', async () => {
    await expect(draw(run, { maskPos: true })).rejects.toThrow(
      /--mask-pos: this network was trained with coordinates/,
    );
    const { runDir } = await trainVariant('unconditional', {});
    await expect(draw(runDir, { cfg: 2 })).rejects.toThrow(/add --guide SNAPSHOT/);
  });
});
