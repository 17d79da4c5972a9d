/** FID: distances, reference files, and the features of Inception with the weights of the formula. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { writeSafetensors } from '@patch-diffusion/torch';
import { describe, expect, it } from 'vitest';
import { openInception } from '../../src/evaluation/features/inception-detector.js';
import { FeatureAccumulator, type FeatureStatistics, frechetDistance } from '../../src/evaluation/frechet.js';
import { readReferenceStatistics } from '../../src/evaluation/reference.js';
import { Inception, inceptionInput } from '../../src/networks/inception.js';
import { type Formula, formulaTensor } from '../helpers/formula.js';
import {
  describeAbsent,
  describeGolden,
  expectClose,
  type Golden,
  goldenDir,
  goldenFiles,
  openGolden,
} from '../helpers/golden.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

interface Config {
  kind: 'fid' | 'inception';
  cases: { name: string; dim: number }[];
  formula: Formula;
  num_tensors: number;
  inputs: string[];
  check_index_j: Record<string, number>;
  sorted_names: string[];
}

const dir = join(goldenDir, 'fid');

describeGolden<Config>('fid', ['fid', 'inception'], async (golden) => {
  if (golden.config.kind === 'fid') checkDistances(golden);
  else await checkInception(golden);
});

const recorded = ({ tensor }: Golden<Config>, at: string, set: 1 | 2): FeatureStatistics => ({
  mean: tensor(`in.${at}.mu_${set}`),
  covariance: tensor(`in.${at}.sigma_${set}`),
});

function checkDistances(golden: Golden<Config>): void {
  const { config, tensor, has } = golden;
  for (const { name, dim } of config.cases) {
    const [a, b] = [recorded(golden, name, 1), recorded(golden, name, 2)];
    const rank = Math.min(
      ...[a, b].map(({ covariance }) => {
        const values = torch.linalgEigh(covariance)[0];
        return values.gt(values.max().mul(1e-10)).sum().item();
      }),
    );
    // A singular product has no exact square root to compare with.
    const relative = rank === dim ? 1e-9 : 1e-5;
    // Equal distributions: 0 but for the rounding of what cancels.
    const rounding = 1e-12 * a.covariance.trace().add(b.covariance.trace()).item();
    for (const kind of ['fid_official', 'fid_eig']) {
      const expected = tensor(`out.${name}.${kind}`).item();
      const difference = Math.abs(frechetDistance(a, b) - expected);
      expect(difference, `${name}: ${kind}`).toBeLessThanOrEqual(Math.abs(expected) * relative + rounding);
    }
    for (const [set, { mean, covariance }] of [
      [1, a],
      [2, b],
    ] as const) {
      if (!has(`in.${name}.features_${set}`)) continue;
      const features = tensor(`in.${name}.features_${set}`);
      const accumulator = new FeatureAccumulator(dim);
      const [first, rest] = features.split([1, features.shape[0] - 1]);
      for (const part of [first, rest]) accumulator.add(part);
      const ours = accumulator.statistics();
      expectClose(ours.mean, mean, 1e-12, 0, `${name}: mean ${set}`);
      expectClose(ours.covariance, covariance, 1e-11, 0, `${name}: covariance ${set}`);
      accumulator.dispose();
    }
  }
}

/** Shapes of the classifier, which our network leaves out. */
const CLASSIFIER: Record<string, number[]> = { 'fc.weight': [1008, 2048], 'fc.bias': [1008] };

async function checkInception({ config, tensor, group, name }: Golden<Config>): Promise<void> {
  const model = new Inception();
  const dict = model.stateDict();
  const names = config.sorted_names.filter((name) => !(name in CLASSIFIER));
  expect([...dict.keys()].sort()).toEqual(names);
  expect(config.sorted_names.length).toBe(config.num_tensors);
  for (const [tensorName, j] of Object.entries(config.check_index_j))
    expect(config.sorted_names.indexOf(tensorName)).toBe(j);
  torch.scope(() => {
    const weights = new Map(
      config.sorted_names.map((name, j) => [
        name,
        formulaTensor(name, j, dict.get(name)?.shape ?? CLASSIFIER[name], config.formula),
      ]),
    );
    for (const [name, first] of group('check.'))
      expectClose(weights.get(name)!.flatten().narrow(0, 0, first.numel), first, 1e-7, 0, `check.${name}`);
    model.loadWeights(weights);
  });

  for (const tag of config.inputs) {
    torch.scope(() => {
      const images = tensor(`in.${tag}.images`);
      const expected = group(`out.${tag}.`);
      const check = (what: string, actual: torch.Tensor) =>
        expectClose(actual, expected.get(what)!, 2e-5, 0, `${name}: ${tag}.${what}`);
      const maps = model.featureMaps(inceptionInput(images, 'halfPixel'));
      for (const [k, map] of maps.slice(0, 3).entries()) {
        check(`block${k}_mean`, map.mean([2, 3]));
        check(`block${k}_pixel`, map.select(2, 3).select(2, 5));
      }
      check('features', maps[3].mean([2, 3]));
      const resized = inceptionInput(images, 'tensorflow');
      check('tf_resized_sample', resized.slice(2, 0, null, 23).slice(3, 0, null, 19));
      check('features_tf_resize', model.features(images, 'tensorflow'));
    });
  }

  // The features of FID, with the weights from a file and images as an evaluation reads them.
  const file = join(await temporaryFolder(), 'inception.safetensors');
  await writeSafetensors(file, model.stateDict());
  model.dispose();
  const detector = await openInception(file, { device: 'cpu' });
  for (const tag of config.inputs) {
    torch.scope(() => {
      const features = detector.features(tensor(`in.${tag}.images`));
      expectClose(features, tensor(`out.${tag}.features_tf_resize`), 2e-5, 0, `${name}: ${tag}, from a file`);
    });
  }
  detector.dispose();
}

const references = existsSync(dir) ? readdirSync(dir).filter((name) => name.endsWith('.npz')) : [];
if (references.length === 0) describeAbsent('fid', 'reference files');

describe.runIf(references.length > 0)('golden/fid: reference files', () => {
  it.each(references)('%s', async (file) => {
    const statistics = await readReferenceStatistics(join(dir, file));
    // The file repeats one set of statistics of the vectors; which one is not recorded.
    const same = goldenFiles('fid')
      .flatMap((name) => {
        const golden = openGolden<Config>(join(dir, name));
        if (golden.config.kind !== 'fid') return [];
        return golden.config.cases.flatMap((c) => [recorded(golden, c.name, 1), recorded(golden, c.name, 2)]);
      })
      .filter(
        ({ mean, covariance }) =>
          torch.equal(mean, statistics.mean) && torch.equal(covariance, statistics.covariance),
      );
    expect(same.length).toBeGreaterThan(0);
  });
});
