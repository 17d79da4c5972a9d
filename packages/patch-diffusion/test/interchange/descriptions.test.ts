/**
 * Files whose descriptions were altered: each must load, or give an error for people, at once. Weights stay as they are.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { Adam, readSafetensors, type Tensor, writeSafetensors } from '@patch-diffusion/torch';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { describePath } from '../../src/cli/info.js';
import { infoText } from '../../src/cli/info-text.js';
import { UserError } from '../../src/common/errors.js';
import { Mt19937 } from '../../src/common/mt19937.js';
import { InfiniteSampler } from '../../src/data/sampler.js';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser, type Denoiser } from '../../src/diffusion/preconditioning.js';
import { METADATA_KEY } from '../../src/formats/file-description.js';
import { writeExport } from '../../src/interchange/export.js';
import { importedNetwork, networkOptions, restoreImported } from '../../src/interchange/imported-state.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import { officialFromPrecond } from '../../src/interchange/official-config.js';
import { loadAutoencoder } from '../../src/latents/autoencoder-folder.js';
import { readSnapshotInfo, type SnapshotInfo } from '../../src/run/snapshot-info.js';
import { newCounters, readTrainingState, writeTrainingState } from '../../src/training/checkpoint.js';
import { makeGenerators } from '../../src/training/random-streams.js';
import { writeTinyAutoencoder } from '../helpers/tiny-autoencoder.js';

const scratch = mkdtempSync(join(tmpdir(), 'patch-diffusion-descriptions-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const RUNS = 80;
const shape = {
  imgResolution: 16,
  inChannels: 5,
  outChannels: 3,
  labelDim: 2,
  modelChannels: 8,
  channelMult: [1, 2],
  numBlocks: 1,
  attnResolutions: [8],
  dropout: 0.1,
  labelDropout: 0.1,
};
const specs: PrecondSpec[] = [
  {
    type: 'pedm',
    network: {
      ...{ type: 'SongUNet', ...shape, embeddingType: 'positional', channelMultNoise: 1 },
      ...{ encoderType: 'standard', decoderType: 'standard', resampleFilter: [1, 1], implicitMlp: false },
    },
    ...{ image: { height: 12, width: 16 }, sigmaMin: 0, sigmaMax: 80, sigmaData: 0.4 },
  },
  {
    type: 'iddpm',
    network: { type: 'DhariwalUNet', ...shape, inChannels: 3, outChannels: 6 },
    ...{ C1: 0.001, C2: 0.008, M: 100 },
  },
  {
    type: 'vp',
    network: { type: 'SongUNet', ...shape, inChannels: 3 },
    ...{ betaD: 19.9, betaMin: 0.1, M: 1000, epsilonT: 1e-5 },
  },
  { type: 've', network: { type: 'SongUNet', ...shape, inChannels: 3 }, sigmaMin: 0.02, sigmaMax: 100 },
];

type Path = readonly (string | number)[];

function pathsOf(value: unknown, path: Path = []): Path[] {
  if (typeof value !== 'object' || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, item]) => pathsOf(item, [...path, key]))];
}

function replaced(value: unknown, [key, ...rest]: Path, by: unknown): unknown {
  if (key === undefined) return by;
  const copy = structuredClone(value) as Record<string | number, unknown>;
  const item = replaced(copy[key], rest, by);
  if (item === undefined) delete copy[key];
  else copy[key] = item;
  return copy;
}

/** A description with one or two fields replaced or removed. */
function altered(description: object): fc.Arbitrary<unknown> {
  const values = [1e9, 1e300, -1, 0, 1, 3, 0.5, 64, '', '1', 'x', null, true, [], [1e9], [0], {}, undefined];
  const value = fc.oneof({ weight: 4, arbitrary: fc.constantFrom<unknown>(...values) }, fc.jsonValue());
  const change = fc.tuple(fc.constantFrom(...pathsOf(description)), value);
  return fc
    .array(change, { minLength: 1, maxLength: 2 })
    .map((changes) =>
      changes.reduce<unknown>(
        (result, [path, by]) => (hasPath(result, path) ? replaced(result, path, by) : result),
        description,
      ),
    );
}

const hasPath = (value: unknown, path: Path): boolean =>
  path.length === 0 ||
  (typeof value === 'object' &&
    value !== null &&
    path[0] in value &&
    hasPath((value as Record<string | number, unknown>)[path[0]], path.slice(1)));

/** Tries altered descriptions: `read` must end well, or with an error for people, and leave no tensor behind. */
async function check(description: object, read: (altered: unknown) => Promise<void>): Promise<void> {
  let [good, bad] = [0, 0];
  await fc.assert(
    fc.asyncProperty(altered(description), async (value) => {
      const before = torch.liveTensors();
      try {
        await read(value);
        good++;
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        expect(error.message).toMatch(/^[^\n]+; [^\n]+$/);
        bad++;
      }
      expect(torch.liveTensors()).toBeLessThanOrEqual(before);
    }),
    { seed: 7, numRuns: RUNS, endOnFailure: true },
  );
  // Both must occur, or the test would show nothing.
  expect(good).toBeGreaterThan(0);
  expect(bad).toBeGreaterThan(RUNS / 4);
}

/** The file again with another description. */
async function rewrite(
  file: string,
  tensors: ReadonlyMap<string, Tensor>,
  metadata: Record<string, string>,
): Promise<string> {
  await writeSafetensors(file, tensors, metadata);
  return file;
}

/** A denoiser that was loaded must also work. */
function tryOut(denoiser: Denoiser): void {
  const { sizeFactor } = denoiser.model;
  torch.noGrad(() =>
    torch.scope(() => {
      const side = [sizeFactor, sizeFactor];
      const x = torch.zeros([1, denoiser.dataChannels, ...side]);
      const positions = denoiser.hasPositions ? torch.zeros([1, 2, ...side]) : null;
      expect(denoiser.forward(x, 1, { positions }).shape).toEqual(x.shape);
    }),
  );
  expect(denoiser.imageExtent.height % sizeFactor).toBe(0);
}

describe.each(specs)('$type', (spec) => {
  let tensors: ReadonlyMap<string, Tensor>;
  let denoiser: Denoiser;
  beforeAll(() => {
    denoiser = createDenoiser(spec);
    tensors = denoiser.stateDict();
  });
  afterAll(() => denoiser.dispose());

  const load = async (file: string) => {
    const loaded = await loadAnySnapshot(file);
    try {
      tryOut(loaded.denoiser);
    } finally {
      loaded.denoiser.dispose();
    }
  };

  it('snapshots', async () => {
    const info: SnapshotInfo = {
      ...{ kind: 'snapshot', formatVersion: 1, precond: spec, nimg: 7, step: 1 },
      loss: { type: 'edm', pMean: -1.2, pStd: 1.2 },
      train: { preset: 'tiny', data: 'd', sampleSteps: 4, sampleChurn: 0 } as SnapshotInfo['train'],
      dataset: { name: 'd', classNames: ['a', 'b'] },
      latents: { autoencoder: { path: 'p', sha256: '00' }, scale: 0.2, shift: 0, downFactor: 8 },
    };
    const file = join(scratch, `${spec.type}.safetensors`);
    await check(info, async (value) => {
      await rewrite(file, tensors, { [METADATA_KEY]: JSON.stringify(value) });
      await readSnapshotInfo(file);
      infoText(await describePath(file));
      await load(file);
    });
  });

  it('exported weights', async () => {
    const config = officialFromPrecond(spec);
    const [plain, pt] = [join(scratch, `${spec.type}-w.safetensors`), join(scratch, `${spec.type}-w.pt`)];
    await writeExport(pt, denoiser, spec, 'torch');
    await check(config, async (value) => {
      const text = JSON.stringify(value);
      writeFileSync(pt.replace('.pt', '.json'), text);
      await rewrite(plain, tensors, { config: text });
      const outcomes = await Promise.allSettled([load(plain), load(pt)]);
      expect(outcomes[0].status).toBe(outcomes[1].status);
      for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
    });
  });
});

describe('training states', () => {
  const spec = specs[0];
  let target: Parameters<typeof readTrainingState>[1];
  beforeEach(() => {
    const [denoiser, ema] = [createDenoiser(spec), createDenoiser(spec)];
    const optimizer = new Adam(denoiser.namedParameters(), { lr: 1e-3 });
    target = {
      state: { denoiser, ema, optimizer, lossScale: null, nimg: 0, step: 0 },
      counters: newCounters(),
      order: new InfiniteSampler({ length: 8, seed: 1, mode: 'window' }),
      patchRandom: new Mt19937(1),
      generators: makeGenerators('cpu', false),
      device: 'cpu',
    };
  });
  afterEach(() => {
    target.state.denoiser.dispose();
    target.state.ema.dispose();
  });

  it('of ours', async () => {
    const file = join(scratch, 'state.safetensors');
    await writeTrainingState(file, target);
    const { tensors, metadata } = await readSafetensors(file);
    const { precond, ...rest } = JSON.parse(metadata[METADATA_KEY]) as { precond: unknown };
    await check(rest, async (value) => {
      const info = Object(value) === value ? { precond, ...(value as object) } : value;
      await rewrite(file, tensors, { [METADATA_KEY]: JSON.stringify(info) });
      infoText(await describePath(file));
      await readTrainingState(file, target);
      // What was restored can be used.
      target.order.next(1);
      target.patchRandom.nextUint32();
    });
    for (const tensor of tensors.values()) tensor.dispose();
  });

  it('imported ones', async () => {
    const { denoiser, ema, optimizer } = target.state;
    const file = join(scratch, 'imported.safetensors');
    const info = { kind: 'training-state', imported: true, precond: spec, nimg: 7, step: 1 };
    const parts = { 'net.': denoiser.stateDict(), 'ema.': ema.stateDict(), 'adam.': optimizer.stateDict() };
    const tensors = new Map(
      Object.entries(parts).flatMap(([prefix, dict]) =>
        [...dict].map(([name, tensor]): [string, Tensor] => [prefix + name, tensor]),
      ),
    );
    await check(info, async (value) => {
      await rewrite(file, tensors, { [METADATA_KEY]: JSON.stringify(value) });
      const network = await importedNetwork(file);
      if (network !== null) networkOptions(network, file);
      await restoreImported(file, target.state);
    });
  });
});

describe('autoencoders', () => {
  it('with altered config.json', async () => {
    const folder = await writeTinyAutoencoder(join(scratch, 'vae'));
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as object;
    await check(config, async (value) => {
      writeFileSync(join(folder, 'config.json'), JSON.stringify(value));
      (await loadAutoencoder(folder)).dispose();
    });
  });
});
