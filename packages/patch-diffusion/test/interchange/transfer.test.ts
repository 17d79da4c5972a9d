/** Starting from other weights: a network for whole images becomes one for patches without changing what it does. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { describe, expect, it, vi } from 'vitest';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { train } from '../../src/index.js';
import { writeSnapshot } from '../../src/interchange/snapshot.js';
import { transferDetails, transferSummary, transferTensors } from '../../src/interchange/transfer.js';
import type { NetworkSpec } from '../../src/networks/index.js';
import { readRunJson } from '../../src/run/runs.js';
import type { TrainEvent } from '../../src/training/events.js';
import { expectClose } from '../helpers/golden.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

const shape = {
  imgResolution: 16,
  outChannels: 3,
  modelChannels: 8,
  channelMult: [1, 1, 1],
  numBlocks: 1,
  attnResolutions: [8],
};
const ncsnpp = { embeddingType: 'fourier', channelMultNoise: 2, resampleFilter: [1, 3, 3, 1] } as const;
const networks: [
  string,
  (
    | Omit<Extract<NetworkSpec, { type: 'SongUNet' }>, 'inChannels'>
    | Omit<Extract<NetworkSpec, { type: 'DhariwalUNet' }>, 'inChannels'>
  ),
  number,
][] = [
  ['DDPM++', { type: 'SongUNet', ...shape }, 1],
  ['DDPM++ with a pointwise MLP', { type: 'SongUNet', ...shape, implicitMlp: true }, 1],
  ['NCSN++', { type: 'SongUNet', ...shape, ...ncsnpp, encoderType: 'residual' }, 2],
  [
    'NCSN++ with skips',
    { type: 'SongUNet', ...shape, ...ncsnpp, encoderType: 'skip', decoderType: 'skip' },
    3,
  ],
  ['ADM', { type: 'DhariwalUNet', ...shape }, 1],
];

describe('widening', () => {
  it.each(networks)('%s starts as the same function, for any coordinates', (_, network, inputs) => {
    torch.manualSeed(5);
    const plain = createDenoiser({
      type: 'edm',
      network: { ...network, inChannels: 3 } as NetworkSpec,
    }).eval();
    const patch = createDenoiser({
      type: 'pedm',
      network: { ...network, inChannels: 5 } as NetworkSpec,
    }).eval();
    torch.scope(() => {
      torch.noGrad(() => {
        // Networks begin with zero output: every weight a random one.
        for (const p of plain.parameters()) p.copy_(torch.randn(p.shape).mul(0.2));
      });
      const report = transferTensors(patch, plain.stateDict());
      expect(report.widened).toHaveLength(inputs);
      expect([report.missing, report.mismatched, report.unused]).toEqual([[], [], []]);
      expect(report.matched.length + inputs).toBe(patch.stateDict().size);
      const x = torch.randn([2, 3, 16, 16]);
      const sigma = torch.tensor([0.1, 3], { dtype: 'float32' });
      const expected = torch.noGrad(() => plain.forward(x, sigma));
      expect(expected.std().item()).toBeGreaterThan(0.1);
      for (const scale of [0, 1, 50]) {
        const positions = torch.randn([2, 2, 16, 16]).mul(scale);
        expectClose(
          torch.noGrad(() => patch.forward(x, sigma, { positions })),
          expected,
          1e-6,
        );
      }
    });
    plain.dispose();
    patch.dispose();
  });

  it('learns from the coordinates afterwards: their weights have gradients', () => {
    const network = { ...networks[0]![1], inChannels: 5 } as NetworkSpec;
    const plain = createDenoiser({ type: 'edm', network: { ...network, inChannels: 3 } });
    const patch = createDenoiser({ type: 'pedm', network });
    torch.scope(() => {
      torch.noGrad(() => {
        for (const p of plain.parameters()) p.copy_(torch.randn(p.shape).mul(0.2));
      });
      transferTensors(patch, plain.stateDict());
      const positions = torch.randn([1, 2, 16, 16]);
      patch
        .eval()
        .forward(torch.randn([1, 3, 16, 16]), 1, { positions })
        .square()
        .sum()
        .backward();
      const weight = patch.stateDict().get('model.enc.16x16_conv.weight')!;
      expect(weight.narrow(1, 3, 2).abs().max().item()).toBe(0);
      expect(weight.grad!.narrow(1, 3, 2).abs().max().item()).toBeGreaterThan(0);
    });
    plain.dispose();
    patch.dispose();
  });
});

describe('partial transfer', () => {
  it('reports counts and names', () => {
    const spec = (extra: object): PrecondSpec => ({
      type: 'pedm',
      network: { type: 'SongUNet', ...shape, inChannels: 5, ...extra },
    });
    const from = createDenoiser(spec({ labelDim: 4, augmentDim: 9 }));
    const to = createDenoiser(spec({ labelDim: 7, numBlocks: 2 }));
    torch.scope(() => {
      const report = transferTensors(to, from.stateDict());
      expect(report.mismatched).toContain('model.map_label.weight');
      expect(report.unused).toContain('model.map_augment.weight');
      expect(report.missing).toContain('model.enc.16x16_block1.conv0.weight');
      const { matched, missing, mismatched } = report;
      expect(matched.length + missing.length + mismatched.length).toBe(to.stateDict().size);
      expect(transferSummary(report, 'x.pkl')).toBe(
        `transferred ${matched.length} tensors from x.pkl, ${missing.length} new, ${mismatched.length} of another shape (new), ${report.unused.length} of the source not needed`,
      );
      expect(transferDetails(report)).toContain('another shape: model.map_label.weight');
    });
    from.dispose();
    to.dispose();
  });
});

describe('--transfer from a signed address', () => {
  it('leaves no secret in the run, its events and the cache', async () => {
    const dir = await temporaryFolder();
    const data = await iconSet(dir);
    const snapshot = join(dir, 'network-snapshot-000001.safetensors');
    using denoiser = createDenoiser({
      type: 'edm',
      network: { type: 'SongUNet', ...shape, channelMult: [1, 2], inChannels: 3 },
    });
    const dataset = { name: 'd', classNames: null };
    await writeSnapshot(snapshot, denoiser, {
      loss: { type: 'edm' },
      train: null,
      dataset,
      nimg: 1,
      step: 1,
    });
    const server = createServer((_, response) => void response.end(readFileSync(snapshot)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    vi.stubEnv('PATCH_DIFFUSION_CACHE', join(dir, 'cache'));
    try {
      const events: TrainEvent[] = [];
      const transfer = `http://127.0.0.1:${port}/network-snapshot-000001.safetensors?X-Amz-Signature=S3CR3T`;
      const { runDir } = await train(
        { ...tinyOptions, data, transfer, durationKimg: 0.008, out: join(dir, 'run') },
        { onEvent: (event) => events.push(event) },
      );
      expect(events.find((event) => event.type === 'transfer')?.message).toMatch(/^transferred [1-9]/);
      expect((await readRunJson(runDir))?.config.transfer).toBe(transfer.replace(/\?.*/, ''));
      expect(JSON.stringify(events)).not.toContain('S3CR3T');
      const files = readdirSync(dir, { recursive: true, encoding: 'utf8' });
      expect(files.filter((name) => name.includes('cache/downloads/'))).toHaveLength(2);
      for (const name of files.map((file) => join(dir, file))) {
        if (statSync(name).isFile()) expect(readFileSync(name).includes('S3CR3T'), name).toBe(false);
      }
    } finally {
      vi.unstubAllEnvs();
      server.close();
      server.closeAllConnections();
    }
  });
});
