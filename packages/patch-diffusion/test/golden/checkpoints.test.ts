/**
 * Official checkpoints: tensors bit for bit, outputs, and what import writes. Each folder has an expected.safetensors
 * and, in it or below, network snapshots (`.pkl`) and training states (`.pt`) of both formats, whatever their names.
 */
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { readSafetensors } from '@patch-diffusion/torch';
import { afterAll, describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { MemorySource } from '../../src/formats/pickle/byte-source.js';
import { importCheckpoint } from '../../src/interchange/import.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import {
  type OfficialNetwork,
  readCheckpoint,
  withCheckpoint,
} from '../../src/interchange/official-checkpoint.js';
import { lossFromOfficial } from '../../src/interchange/official-config.js';
import { loadSnapshot } from '../../src/interchange/snapshot.js';
import { describeAbsent, expectClose, type Golden, goldenDir, openGolden } from '../helpers/golden.js';

interface Config {
  readonly net: { readonly class: string };
  readonly param_order: readonly string[];
  readonly loss_fn: { readonly class_name: string; readonly attributes: Record<string, number> };
  readonly dataset_kwargs: Record<string, unknown> & { readonly path: string };
  readonly optimizer_param_group: Record<string, unknown>;
}

const root = join(goldenDir, 'checkpoints');
const nets = existsSync(root)
  ? readdirSync(root).filter((net) => existsSync(join(root, net, 'expected.safetensors')))
  : [];
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
      positions: optional('in.x_pos'),
      classLabels: optional('in.class_labels'),
      augmentLabels: optional('in.augment_labels'),
    }),
  );
  expectClose(D, golden.tensor('out.D_x'), 2e-5);
}

/** Thousands of images in the file's name, as images. */
const nimgOf = (file: string) => Number(/-(\d+)\.\w+$/.exec(file)?.[1] ?? 0) * 1000;

if (nets.length === 0) describeAbsent('checkpoints');

describe.runIf(nets.length > 0)('golden/checkpoints', () => {
  for (const net of nets) {
    const dir = join(root, net);
    const golden = openGolden<Config>(join(dir, 'expected.safetensors'));
    const files = readdirSync(dir, { recursive: true, encoding: 'utf8' });
    const snapshots = files.filter((name) => name.endsWith('.pkl'));
    const states = files.filter((name) => /\.pth?$/.test(name));
    const { loss_fn, dataset_kwargs, optimizer_param_group } = golden.config;
    const { lr, betas, eps } = optimizer_param_group;
    const dataset = { name: basename(dataset_kwargs.path).replace(/\.zip$/, '') };

    it(`${net}: has files of known kinds`, () => {
      expect(snapshots.length + states.length).toBeGreaterThan(0);
      const known = new Set(['expected.safetensors', ...snapshots, ...states]);
      expect(files.filter((name) => !known.has(name) && /\.\w+$/.test(name))).toEqual([]);
    });

    for (const pkl of snapshots) {
      it(`${net}: ${pkl}, from a file and from memory`, async () => {
        const use = (c: Awaited<ReturnType<typeof readCheckpoint>>) => {
          if (c.kind !== 'snapshot') throw new Error(c.kind);
          torch.scope(() => expectSame(tensorsOf(c.ema), golden.group('ema.')));
          expect(c.loss).toEqual(lossFromOfficial(loss_fn.class_name, loss_fn.attributes));
          expect(c.dataset).toMatchObject(dataset_kwargs);
        };
        await withCheckpoint(join(dir, pkl), use);
        use(await readCheckpoint(new MemorySource(readFileSync(join(dir, pkl))), pkl));
      });

      it(`${net}: the network of ${pkl} gives the official outputs`, async () => {
        await collectGarbage();
        const before = torch.liveTensors();
        const { denoiser, info } = await loadAnySnapshot(join(dir, pkl));
        torch.scope(() => expectOutput(denoiser, golden));
        expect(info).toMatchObject({ nimg: nimgOf(pkl), train: null, dataset });
        denoiser.dispose();
        expect(torch.liveTensors()).toBe(before);
      });

      it(`${net}: import of ${pkl}`, async () => {
        const folder = join(scratch, net, 'snapshot');
        cpSync(join(dir, pkl), join(folder, pkl));
        const snapshot = await importCheckpoint(join(folder, pkl));
        expect(snapshot).toMatchObject({
          kind: 'snapshot',
          nimg: nimgOf(pkl),
          file: join(folder, pkl.replace(/\.pkl$/, '.safetensors')),
        });
        const { denoiser } = await loadSnapshot(snapshot.file);
        torch.scope(() => {
          expectSame(denoiser.stateDict(), golden.group('ema.'));
          expectOutput(denoiser, golden);
        });
        denoiser.dispose();
      });
    }

    for (const file of states) {
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
          expect(c.optimizer).toMatchObject({ lr, betas, eps });
        });
      });
    }

    for (const pt of states) {
      const snapshotName = basename(pt)
        .replace('training-state', 'network-snapshot')
        .replace(/\.pth?$/, '.pkl');
      const snapshot = snapshots.find((name) => basename(name) === snapshotName);
      it.runIf(snapshot)(`${net}: import of ${pt}`, async () => {
        const folder = join(scratch, net, dirname(pt));
        cpSync(join(dir, pt), join(folder, basename(pt)));
        cpSync(join(dir, snapshot!), join(folder, snapshotName));
        const state = await importCheckpoint(join(folder, basename(pt)), {
          out: join(folder, 'state.safetensors'),
        });
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

      it(`${net}: ${pt} without its snapshot says what is missing`, async () => {
        const folder = join(scratch, net, 'alone', dirname(pt));
        cpSync(join(dir, pt), join(folder, basename(pt)));
        await expect(
          importCheckpoint(join(folder, basename(pt)), { out: join(scratch, 'none.safetensors') }),
        ).rejects.toThrow(`no averaged weights; put its ${snapshotName} into the same folder`);
      });
    }
  }
});
