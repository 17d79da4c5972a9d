import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readConfigFile } from '../../src/config/config-file.js';
import { resolveGenerateOptions } from '../../src/config/generate-options.js';
import { officialTrainOptions, takeOfficialOptions } from '../../src/config/official.js';
import { presetNames, presets } from '../../src/config/presets.js';
import { resolveTrainOptions, validateAgainstData } from '../../src/config/resolve.js';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import { trainFields } from '../../src/config/train-options.js';

const data = { height: 64, width: 64, channels: 3, labelDim: 0 };

describe('resolveTrainOptions', () => {
  it('takes presets, file, flags in this order', () => {
    const file = { name: 'c.yaml', values: { data: 'a', preset: 'tiny', lr: 2e-3, batch: 16 } };
    const options = resolveTrainOptions({ file, flags: { batch: '8' } });
    expect(options).toMatchObject({ preset: 'tiny', data: 'a', lr: 2e-3, batch: 8, modelChannels: 32 });
    expect(resolveTrainOptions({ file, flags: { preset: 'small' } })).toMatchObject({
      preset: 'small',
      lr: 2e-3,
      modelChannels: 64,
    });
  });

  it.each(presetNames)('resolves preset %s, and its result again to itself', (preset) => {
    const options = resolveTrainOptions({ call: { data: 'x', preset } });
    expect(options).toMatchObject(presets[preset].values);
    expect(Object.keys(options)).toEqual(Object.keys(trainFields));
    expect(resolveTrainOptions({ call: options })).toEqual(options);
    expect(resolveTrainOptions({ call: JSON.parse(JSON.stringify(options)) })).toEqual(options);
    const side = presets[preset].sidePx;
    const labelDim = options.cond === true ? 10 : 0;
    const shape = { ...data, height: side, width: side, labelDim };
    expect(() => validateAgainstData(options, shape)).not.toThrow();
  });

  it('has the published hyper-parameters', () => {
    expect(resolveTrainOptions({ call: { data: 'x', preset: 'celeba-64' } })).toMatchObject({
      arch: 'ddpmpp',
      modelChannels: 128,
      channelMult: [1, 2, 2, 2],
      numBlocks: 4,
      attnResolutions: [16],
      batch: 256,
      lr: 2e-4,
      dropout: 0.05,
      realP: 0.5,
      durationKimg: 200_000,
      emaHalflifeKimg: 500,
      emaRampupRatio: 0.05,
      lrRampupKimg: 10_000,
      lossNorm: 'sum',
      sampleSteps: 50,
    });
    expect(presets['afhqv2-64'].values).toMatchObject({ dropout: 0.25, durationKimg: 75_000 });
  });

  it('averages at full length at once where published configurations or ECT begin with trained weights', () => {
    const ratio = (call: TrainOptionsInput) =>
      resolveTrainOptions({ call: { data: 'x', transfer: 'run', ...call } }).emaRampupRatio;
    expect(ratio({ preset: 'celeba-64' })).toBeNull();
    expect(ratio({ preset: 'tiny', objective: 'ect' })).toBeNull();
    expect(ratio({ preset: 'celeba-64', emaRampupRatio: 0.1 })).toBe(0.1);
    // In a short run such an average would hold on to the weights that it began with.
    expect(ratio({ preset: 'tiny' })).toBe(0.05);
    // Runs of before did so after any transfer; they recorded no candidates.
    const resumed = (recorded: object) =>
      resolveTrainOptions({
        base: {
          values: { data: 'x', seed: 1, preset: 'tiny', transfer: 'run', emaRampupRatio: 0.05, ...recorded },
          name: 'run.json',
        },
        call: { resume: 'r' },
      }).emaRampupRatio;
    expect(resumed({})).toBeNull();
    expect(resumed({ immiscible: null })).toBe(0.05);
  });

  it('chooses sizes by noise level only among sizes of one time', () => {
    const flags = { data: 'x', sizesByNoise: 'true', schedule: 'progressive' };
    expect(() => resolveTrainOptions({ flags })).toThrow('has one patch size at a time');
    expect(resolveTrainOptions({ flags: { ...flags, schedule: 'annealed' } }).sizesByNoise).toBe(true);
  });

  it('trains on whole images without the preconditioning of patches', () => {
    for (const precond of ['edm', 'vp', 've'] as const) {
      const options = resolveTrainOptions({ flags: { data: 'x', precond } });
      expect(options).toMatchObject({ precond, realP: 1, patchSizes: null });
      expect(resolveTrainOptions({ call: options })).toEqual(options);
      for (const flags of [
        { real_p: '0.5' },
        { patchSizes: '16,32' },
        { schedule: 'progressive' },
        { sizesByNoise: 'true' },
      ]) {
        expect(() => resolveTrainOptions({ flags: { data: 'x', precond, ...flags } })).toThrow(
          'trains on whole images',
        );
      }
    }
  });

  it('takes the official --augment, and refuses what an architecture lacks', () => {
    expect(resolveTrainOptions({ flags: { data: 'x', augment: '0.12' } })).toMatchObject({
      augment: 0.12,
      augmentAt: 'patch',
    });
    const flags = { data: 'x', arch: 'adm', implicit_mlp: '1' };
    expect(() => resolveTrainOptions({ flags })).toThrow('not made for --arch adm');
  });

  it('draws a seed when none is given, and keeps one that is', () => {
    expect(resolveTrainOptions({ call: { data: 'x' } }).seed).toBeGreaterThanOrEqual(0);
    expect(resolveTrainOptions({ call: { data: 'x', seed: 0 } }).seed).toBe(0);
  });

  it.each([
    [{}, 'no images given'],
    [{ data: 'x', preset: 'smal' }, 'unknown preset "smal"; did you mean "small"?'],
    [
      { data: 'x', batch: '64', batchGpu: '24' },
      '--batch-gpu 24 does not divide --batch 64; use --batch-gpu 16',
    ],
    [{ data: 'x', resume: 'a', transfer: 'b' }, 'exclude each other'],
    [{ data: 'x', immiscible: '0' }, '--immiscible'],
    [{ data: 'x', immiscible: '257' }, 'from 1 to 256'],
    [{ data: 'x', immiscible: '2.5' }, 'an integer'],
    [
      { data: 'x', objective: 'ect', transfer: 'b', keep: '2', keepBest: 'true', holdout: '8' },
      'does not judge --objective ect',
    ],
    [{ data: 'x', immiscible: '4', objective: 'ect', transfer: 'b' }, 'is for --objective denoising'],
    [{ data: 'x', labelDropout: '0.1' }, 'add --cond'],
    [{ data: 'x', patchSizes: '16,16,64' }, 'given twice'],
    [{ data: 'x', resolution: '50' }, 'use --resolution 48 or 52'],
    [{ data: 'x', resolution: '64', patchSizes: '18,64' }, 'use 20, or fewer levels'],
  ])('refuses %j', (flags, message) => {
    expect(() => resolveTrainOptions({ flags })).toThrow(message);
  });

  it('lowers the batch-gpu of a preset to one that divides the batch, but not one that is given', () => {
    const resolve = (call: object) =>
      resolveTrainOptions({ call: { data: 'x', preset: 'lsun-256', ...call } });
    expect(resolve({ batch: 16 }).batchGpu).toBe(16);
    expect(resolve({ batch: 48 }).batchGpu).toBe(24);
    expect(() => resolve({ batch: 16, batchGpu: 32 })).toThrow('use --batch-gpu 16');
  });

  it('suggests a batch-gpu that divides the batch', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 2000 }), (batch, batchGpu) => {
        const resolve = (n: number) => resolveTrainOptions({ call: { data: 'x', batch, batchGpu: n } });
        try {
          resolve(batchGpu);
          expect(batch % batchGpu).toBe(0);
        } catch (error) {
          const fits = Number(/use --batch-gpu (\d+)/.exec((error as Error).message)?.[1]);
          expect(resolve(fits).batchGpu).toBe(fits);
        }
      }),
    );
  });
});

describe('checks against the data', () => {
  const options = resolveTrainOptions({ call: { data: 'x', preset: 'celeba-64' } });

  it('wants sides that halve at every level', () => {
    expect(() => validateAgainstData(options, { ...data, width: 60 })).toThrow(
      /60×64 px do not fit a network of 4 levels.*divisible by 8; use --resolution 56x64 or 64/,
    );
    expect(() => validateAgainstData(options, { ...data, width: 96 })).not.toThrow();
  });

  it('wants the channels and labels that the options name', () => {
    expect(() => validateAgainstData({ ...options, channels: 1 }, data)).toThrow('--channels 1');
    expect(() => validateAgainstData({ ...options, cond: true }, data)).toThrow('--cond needs class labels');
    expect(() => validateAgainstData({ ...options, cond: true }, { ...data, labelDim: 3 })).not.toThrow();
  });
});

describe('a resumed run', () => {
  const recorded = resolveTrainOptions({
    call: { data: 'x', preset: 'celeba-64', transfer: 'a.pkl', seed: 1 },
  });
  const base = { name: 'run.json', values: recorded };
  const resume = (call: object) => resolveTrainOptions({ base, call: { resume: 'run', ...call } });

  it('takes the options of the run, and new ones that do not change what it trains', () => {
    expect(resume({ lr: 1, durationKimg: 9 })).toEqual({
      ...recorded,
      resume: 'run',
      lr: 1,
      durationKimg: 9,
    });
  });

  it.each([
    [{ numBlocks: 2 }, '--num-blocks is fixed by the run (4, not 2)'],
    [{ seed: 2 }, '--seed is fixed by the run (1, not 2)'],
    [{ dropout: 0.25 }, '--dropout is fixed by the run (0.05, not 0.25)'],
    [{ order: 'epochs' }, '--order is fixed by the run (window, not epochs)'],
    [{ holdout: 8 }, '--holdout is fixed by the run (0, not 8)'],
    [{ maxImages: 5 }, '--max-images is fixed by the run (all, not 5)'],
    [{ resolution: 64 }, '--resolution is fixed by the run (auto, not 64)'],
    [{ preset: 'small' }, '--preset is fixed by the run (celeba-64, not small)'],
    [{ transfer: 'b.pkl' }, 'exclude each other'],
  ])('refuses %j', (change, message) => {
    expect(() => resume(change)).toThrow(message);
  });

  it('keeps its label dropout', () => {
    const values = { ...recorded, cond: 'auto' };
    const change = () =>
      resolveTrainOptions({ base: { name: 'run.json', values }, flags: { labelDropout: '0.1' } });
    expect(change).toThrow('--label-dropout is fixed by the run (0, not 0.1)');
  });

  it('may have been recorded by a version with fewer options', () => {
    const { pMean: _, ...fewer } = recorded;
    expect(resolveTrainOptions({ base: { name: 'run.json', values: fewer } })).toEqual(recorded);
  });
});

describe('official-only options', () => {
  const take = (flags: Record<string, unknown>) => takeOfficialOptions(flags, officialTrainOptions);

  it('accepts what asks for what happens anyway, and says what has no effect', () => {
    const { flags, notes } = take({
      workers: '4',
      lr: '1e-3',
      progressive: '1',
    });
    expect(flags).toEqual({ lr: '1e-3', schedule: 'progressive' });
    expect(notes).toHaveLength(1);
    expect(notes[0]).toMatch(/--workers has no effect/);
  });

  it('reads --fp16 as a precision, but not beside --precision', () => {
    expect(take({ fp16: '1' }).flags).toEqual({ precision: 'fp16' });
    expect(take({ fp16: 'False' }).flags).toEqual({ precision: 'fp32' });
    expect(() => take({ fp16: '1', precision: 'bf16' })).toThrow(
      '--fp16 and --precision are the same option',
    );
  });
});

describe('the sampler of sample sheets', () => {
  const sampler = (call: TrainOptionsInput, values?: Record<string, unknown>) => {
    const base = values && { name: 'run.json', values };
    const options = resolveTrainOptions({
      call: { data: 'd', preset: 'tiny', ...call },
      ...(base && { base }),
    });
    return [options.sampler, options.sampleSteps, options.sampleChurn];
  };

  it('is the stochastic one in tiny and small, and edm in published presets', () => {
    expect(sampler({})).toEqual(['dpmpp-2m-sde', 12, 0]);
    expect(sampler({ preset: 'small' })).toEqual(['dpmpp-2m-sde', 12, 0]);
    expect(sampler({ preset: 'celeba-64' })).toEqual(['edm', 50, 0]);
  });

  it('is edm where churn is asked for, which others refuse', () => {
    expect(sampler({ sampleChurn: 8 })).toEqual(['edm', 12, 8]);
    expect(() => sampler({ sampler: 'dpmpp-2m', sampleChurn: 8 })).toThrow(
      '--sample-churn 8 belongs to --sampler edm, not dpmpp-2m; use --sample-churn 0',
    );
  });

  it('stays edm in runs of versions that recorded none', () => {
    const older = { data: 'd', preset: 'tiny', seed: 1, sampleSteps: 24, sampleChurn: 0 };
    expect(sampler({}, older)).toEqual(['edm', 24, 0]);
    expect(sampler({}, { ...older, sampler: 'dpmpp-2m' })).toEqual(['dpmpp-2m', 24, 0]);
  });
});

describe('what the presets tiny and small have from docs/results.md', () => {
  const choices = (call: TrainOptionsInput, values?: Record<string, unknown>) => {
    const { schedule, optimizer, lrCooldown } = resolveTrainOptions({
      call: { data: 'd', preset: 'tiny', ...call },
      ...(values && { base: { name: 'run.json', values } }),
    });
    return [schedule, optimizer, lrCooldown];
  };

  it('is not in published presets, nor in runs of versions that knew none of it', () => {
    expect(choices({})).toEqual(['annealed', 'muon', 0.2]);
    expect(choices({ preset: 'small' })).toEqual(['annealed', 'muon', 0.2]);
    expect(choices({ preset: 'celeba-64' })).toEqual(['stochastic', 'adam', 0]);
    const older = { data: 'd', preset: 'tiny', seed: 1, schedule: 'stratified' };
    expect(choices({}, older)).toEqual(['stratified', 'adam', 0]);
  });

  it('gives way to shares of patch sizes that are given', () => {
    const patches = (probability: number | null) => [16, 32].map((sidePx) => ({ sidePx, probability }));
    expect(choices({ realP: 0.3 })[0]).toBe('stratified');
    expect(choices({ patchSizes: patches(0.5) })[0]).toBe('stratified');
    expect(choices({ patchSizes: patches(null) })[0]).toBe('annealed');
    expect(choices({ realP: 0.3, schedule: 'annealed' })[0]).toBe('annealed');
  });
});

describe('resolveGenerateOptions', () => {
  it('has the defaults of EDM', () => {
    const options = resolveGenerateOptions({ call: { run: 'r' } });
    expect(options).toMatchObject({
      sampler: null,
      sigmaMin: null,
      sigmaMax: null,
      rho: 7,
      sChurn: null,
      sNoise: 1,
      steps: null,
    });
    expect(options.seeds).toHaveLength(64);
    expect(options.out).toBe(join('r', 'generated'));
  });

  it('computes in float32, or as the hardware is faster', () => {
    const precision = (call: object) => resolveGenerateOptions({ call: { run: 'r', ...call } }).precision;
    expect(precision({})).toBe('fp32');
    expect(precision({ precision: 'auto' })).toBe('auto');
  });

  it('reads official names', () => {
    const flags = {
      network: 'n',
      S_churn: '40',
      S_min: '0.05',
      S_max: '50',
      S_noise: '1.003',
      image_size: '96',
      x_start: '-16',
    };
    expect(resolveGenerateOptions({ flags })).toMatchObject({
      sChurn: 40,
      sMin: 0.05,
      sMax: 50,
      sNoise: 1.003,
      imageSize: 96,
      xStart: -16,
    });
    expect(resolveGenerateOptions({ flags: { run: 'r', S_max: 'inf' } }).sMax).toBeNull();
  });

  it('takes a class by number or name, or a label of numbers', () => {
    const read = (flags: Record<string, string>) => {
      const options = resolveGenerateOptions({ flags: { run: 'r', ...flags } });
      return options.class ?? options.label;
    };
    expect(read({})).toBeNull();
    expect(read({ class: '3' })).toBe(3);
    expect(read({ class: 'tabby cat' })).toBe('tabby cat');
    expect(read({ class: 'random' })).toBeNull();
    expect(read({ label: '0.3,-103' })).toEqual([0.3, -103]);
    expect(read({ label: '[1e-3]' })).toEqual([0.001]);
    expect(() => read({ label: '0.3,x' })).toThrow(
      '--label: "0.3,x" is not allowed; use numbers, such as 0.3,103',
    );
    expect(() => read({ class: '1', label: '1' })).toThrow('--class and --label exclude each other');
    const file = { name: 'c.yaml', values: { run: 'r', label: 0.5 } };
    expect(resolveGenerateOptions({ file }).label).toEqual([0.5]);
  });

  it('takes the generalised sampler when any of its options is given, as the official generator does', () => {
    const sampler = (flags: Record<string, string>) =>
      resolveGenerateOptions({ flags: { run: 'r', ...flags } }).sampler;
    expect(sampler({})).toBe(null);
    expect(sampler({ sampler: 'dpmpp-2m' })).toBe('dpmpp-2m');
    for (const flags of [
      { solver: 'euler' },
      { disc: 've' },
      { schedule: 'vp' },
      { scaling: 'vp' },
      { alpha: '0.5' },
    ]) {
      expect(sampler(flags as unknown as Record<string, string>)).toBe('generalised');
    }
    const resolved = resolveGenerateOptions({
      flags: { run: 'r', disc: 'vp', cfg: '2', cfgInterval: '0.28,2.9' },
    });
    expect(resolved).toMatchObject({ discretization: 'vp', cfgInterval: [0.28, 2.9] });
  });

  it('counts seeds', () => {
    expect(resolveGenerateOptions({ flags: { run: 'r', count: '3' } }).seeds).toEqual([0, 1, 2]);
    expect(resolveGenerateOptions({ flags: { run: 'r', seeds: '5,8-10' } }).seeds).toEqual([5, 8, 9, 10]);
    expect(() => resolveGenerateOptions({ flags: { run: 'r', seeds: '5', count: '3' } })).toThrow('exclude');
  });

  it('writes only the sheet when only a sheet is asked for', () => {
    expect(resolveGenerateOptions({ flags: { run: 'r', grid: 's.png' } }).out).toBeNull();
  });

  it.each([
    [{}, 'say which network'],
    [{ run: 'a', network: 'b' }, 'say which network'],
    [{ run: 'a', sigmaMin: '90' }, '--sigma-min 90 must be below --sigma-max 80'],
    [{ run: 'a', steps: '0' }, '--steps'],
    [{ run: 'a', solver: 'euler', sampler: 'edm' }, '--solver belongs to --sampler generalised, not edm'],
    [{ run: 'a', sampler: 'dpmpp-2m', S_churn: '40' }, '--s-churn belongs to'],
    [{ run: 'a', cfgInterval: '0.2,3' }, '--cfg-interval needs a guidance scale'],
    [{ run: 'a', guide: 'g.safetensors' }, '--guide needs a guidance scale'],
    [{ run: 'a', cfg: '2', cfgInterval: '3,0.2' }, 'must be below the second'],
  ])('refuses %j', (flags, message) => {
    expect(() => resolveGenerateOptions({ flags })).toThrow(message);
  });
});

describe('config files', () => {
  let dir = '';
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'config-'));
  });
  afterAll(() => rm(dir, { recursive: true }));
  const put = async (name: string, text: string) => {
    await writeFile(join(dir, name), text);
    return join(dir, name);
  };

  it('reads JSON, YAML and run.json to the same options', async () => {
    const values = { data: 'a', preset: 'tiny', cres: [1, 2], betas: [0.5, 0.9], xflip: true, seed: 1 };
    const json = await put('c.json', JSON.stringify(values));
    const yaml = await put(
      'c.yaml',
      'data: a\npreset: tiny\ncres: 1,2\nbetas: [0.5, 0.9]\nxflip: 1\nseed: 1\n',
    );
    const options = resolveTrainOptions({ file: { name: json, values: await readConfigFile(json) } });
    expect(options).toMatchObject({ channelMult: [1, 2], xflip: true });
    expect(resolveTrainOptions({ file: { name: yaml, values: await readConfigFile(yaml) } })).toEqual(
      options,
    );
    // A run repeats another one from its beginning, even where that one had gone on from a state.
    const config = { ...options, resume: 'state.safetensors' };
    const run = await put('run.json', JSON.stringify({ status: 'done', config }));
    expect(resolveTrainOptions({ file: { name: run, values: await readConfigFile(run) } })).toEqual(options);
  });

  it.each([
    ['bad.json', '{', 'is malformed'],
    ['list.yaml', '- 1\n', 'must be a mapping'],
    ['bad.yaml', 'a: [1\n', 'is malformed'],
  ])('refuses %s', async (name, text, message) => {
    await expect(readConfigFile(await put(name, text))).rejects.toThrow(message);
  });

  it('says when there is none', async () => {
    await expect(readConfigFile(join(dir, 'none.yaml'))).rejects.toThrow('does not exist');
  });
});
