/** Official checkpoints, three formats of two networks: tensors bit for bit, outputs, and what import writes. */
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { readSafetensors } from '@patch-diffusion/torch';
import { afterAll, describe, expect, it } from 'vitest';
import { importCheckpoint } from '../../src/interchange/import.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import {
  type OfficialNetwork,
  readCheckpoint,
  withCheckpoint,
} from '../../src/interchange/official-checkpoint.js';
import { MemorySource } from '../../src/interchange/pickle/byte-source.js';
import { loadSnapshot } from '../../src/training/snapshot.js';
import { expectClose, type Golden, goldenDir, openGolden } from '../helpers/golden.js';

interface Config {
  readonly net: { readonly class: string };
  readonly param_order: readonly string[];
}

const root = join(goldenDir, 'checkpoints');
const PKL = 'network-snapshot-000012.pkl';
const PT = 'training-state-000012.pt';
const scratch = mkdtempSync(join(tmpdir(), 'patch-diffusion-import-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const bits = (t: Tensor): Buffer => {
  const { buffer, byteOffset, byteLength } = t.toTypedArray();
  return Buffer.from(buffer, byteOffset, byteLength);
};

/** Same names, shapes and bits. */
function expectSame(actual: ReadonlyMap<string, Tensor>, expected: ReadonlyMap<string, Tensor>): void {
  expect([...actual.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [name, tensor] of expected) {
    expect(actual.get(name)!.shape, name).toEqual(tensor.shape);
    expect(bits(actual.get(name)!).equals(bits(tensor)), name).toBe(true);
  }
}

const tensorsOf = ({ tensors }: OfficialNetwork) =>
  new Map(tensors.map(({ name, tensor }) => [name, tensor.toTensor()]));

function expectOutput(
  denoiser: Awaited<ReturnType<typeof loadSnapshot>>['denoiser'],
  golden: Golden<Config>,
): void {
  const optional = (name: string) => (golden.has(name) ? golden.tensor(name) : null);
  const D = torch.noGrad(() =>
    denoiser.forward(golden.tensor('in.x'), golden.tensor('in.sigma'), {
      positions: golden.tensor('in.x_pos'),
      classLabels: optional('in.class_labels'),
      augmentLabels: optional('in.augment_labels'),
    }),
  );
  expectClose(D, golden.tensor('out.D_x'), 2e-5);
}

describe.skipIf(!existsSync(root))(
  `golden/checkpoints${existsSync(root) ? '' : ` (skipped: there is no ${root})`}`,
  () => {
    for (const net of ['patch_adm_cond', 'patch_ddpmpp']) {
      const dir = join(root, net);
      const golden = openGolden<Config>(join(dir, 'expected.safetensors'));

      it(`${net}: snapshot, from a file and from memory`, async () => {
        for (const source of [dir, null]) {
          const use = (c: Awaited<ReturnType<typeof readCheckpoint>>) => {
            if (c.kind !== 'snapshot') throw new Error(c.kind);
            torch.scope(() => expectSame(tensorsOf(c.ema), golden.group('ema.')));
            expect(c.loss).toEqual({ type: 'edm', pMean: -1.2, pStd: 1.2, sigmaData: 0.5 });
            expect(c.dataset).toMatchObject({ path: 'datasets/tiny-64x64.zip', resolution: 64 });
          };
          if (source) await withCheckpoint(join(dir, PKL), use);
          else use(await readCheckpoint(new MemorySource(readFileSync(join(dir, PKL))), PKL));
        }
      });

      for (const file of [PT, `legacy/${PT}`]) {
        it(`${net}: ${file}`, async () => {
          await withCheckpoint(join(dir, file), (c) => {
            if (c.kind !== 'training-state') throw new Error(c.kind);
            torch.scope(() => {
              expectSame(tensorsOf(c.net), golden.group('net.'));
              const moments = [...c.moments];
              expect(moments.map(([name]) => name)).toEqual(golden.config.param_order);
              expectSame(
                new Map(moments.map(([n, m]) => [n, m.expAvg.toTensor()])),
                golden.group('optimizer.exp_avg.'),
              );
              expectSame(
                new Map(moments.map(([n, m]) => [n, m.expAvgSq.toTensor()])),
                golden.group('optimizer.exp_avg_sq.'),
              );
              for (const [name, { step }] of moments)
                expect(golden.tensor(`optimizer.step.${name}`).item()).toBe(step);
            });
            expect(c.optimizer).toMatchObject({ betas: [0.9, 0.999], eps: 1e-8 });
          });
        });
      }

      it(`${net}: the loaded network gives the official outputs`, async () => {
        const before = torch.liveTensors();
        const { denoiser, info } = await loadAnySnapshot(join(dir, PKL));
        torch.scope(() => expectOutput(denoiser, golden));
        expect(info).toMatchObject({ nimg: 12_000, train: null, dataset: { name: 'tiny-64x64' } });
        denoiser.dispose();
        expect(torch.liveTensors()).toBe(before);
      });

      it(`${net}: import writes a snapshot and a training state`, async () => {
        const folder = join(scratch, net);
        for (const name of [PKL, PT]) cpSync(join(dir, name), join(folder, name));
        const snapshot = await importCheckpoint(join(folder, PKL));
        expect(snapshot).toMatchObject({
          kind: 'snapshot',
          nimg: 12_000,
          file: join(folder, 'network-snapshot-000012.safetensors'),
        });
        const { denoiser } = await loadSnapshot(snapshot.file);
        torch.scope(() => {
          expectSame(denoiser.stateDict(), golden.group('ema.'));
          expectOutput(denoiser, golden);
        });
        denoiser.dispose();

        const state = await importCheckpoint(join(folder, PT), { out: join(folder, 'state.safetensors') });
        const { tensors } = await readSafetensors(state.file);
        const part = (prefix: string) =>
          new Map(
            [...tensors].filter(([n]) => n.startsWith(prefix)).map(([n, t]) => [n.slice(prefix.length), t]),
          );
        torch.scope(() => {
          expectSame(part('net.'), golden.group('net.'));
          expectSame(part('ema.'), golden.group('ema.'));
          expectSame(part('adam.exp_avg.'), golden.group('optimizer.exp_avg.'));
          expectSame(part('adam.exp_avg_sq.'), golden.group('optimizer.exp_avg_sq.'));
        });
        expect(tensors.get('adam.step')!.item()).toBe(
          golden.tensor(`optimizer.step.${golden.config.param_order[0]}`).item(),
        );
        for (const tensor of tensors.values()) tensor.dispose();
      });

      it(`${net}: a state without its snapshot says what is missing`, async () => {
        await expect(
          importCheckpoint(join(dir, 'legacy', PT), { out: join(scratch, 'none.safetensors') }),
        ).rejects.toThrow(/no averaged weights; put its network-snapshot-000012.pkl into the same folder/);
      });
    }
  },
);
