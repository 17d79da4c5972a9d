/** Training that starts from official files: `--resume training-state-*.pt` and `--transfer network-snapshot-*.pkl`. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readSafetensors } from '@patch-diffusion/torch';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { run } from '../../src/cli/main.js';
import { train } from '../../src/index.js';
import { importCheckpoint } from '../../src/interchange/import.js';
import { newestState, readRunJson } from '../../src/run/runs.js';
import type { TrainEvent } from '../../src/training/events.js';
import { goldenDir, openGolden } from '../helpers/golden.js';

const golden = join(goldenDir, 'checkpoints', 'patch_ddpmpp');
const has = existsSync(golden);

describe.skipIf(!has)(`going on from official files${has ? '' : ` (skipped: there is no ${golden})`}`, () => {
  const dir = mkdtempSync(join(tmpdir(), 'patch-diffusion-resume-'));
  const data = join(dir, 'images');
  const [pkl, pt] = [join(dir, 'network-snapshot-000012.pkl'), join(dir, 'training-state-000012.pt')];
  const common = {
    data,
    resolution: 64,
    batch: 2,
    tickKimg: 0.002,
    sampleTicks: null,
    samples: 1,
    sampleSteps: 2,
    device: 'cpu',
    seed: 1,
    out: join(dir, 'runs'),
  };

  beforeAll(async () => {
    mkdirSync(data);
    for (const [from, to] of [
      ['network-snapshot-000012.pkl', pkl],
      ['training-state-000012.pt', pt],
    ])
      cpSync(join(golden, from), to);
    for (let i = 0; i < 4; i++) {
      await sharp({
        create: { width: 64, height: 64, channels: 3, background: { r: 60 * i, g: 90, b: 200 - 40 * i } },
      })
        .png()
        .toFile(join(data, `${i}.png`));
    }
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it('a training state, as it is and imported, continues in a run of its own', async () => {
    const { file } = await importCheckpoint(pt, { out: join(dir, 'state.safetensors') });
    for (const resume of [pt, file]) {
      const events: TrainEvent[] = [];
      const result = await train(
        { ...common, resume, durationKimg: 12.002, lr: 1e-12 },
        { onEvent: (e) => events.push(e) },
      );
      expect(result.nimg).toBeGreaterThanOrEqual(12_002);
      expect(events.find((e) => e.type === 'start')).toMatchObject({ nimg: 12_000, resumedFrom: resume });
      const { config } = (await readRunJson(result.runDir))!;
      expect(config).toMatchObject({
        arch: 'ddpmpp',
        modelChannels: 8,
        channelMult: [1, 1],
        numBlocks: 1,
        dropout: 0.13,
      });

      // Adam continued from the official moments: after n updates they still have their share.
      const state = await readSafetensors((await newestState(result.runDir))!);
      const vectors = openGolden(join(golden, 'expected.safetensors'));
      const name = 'model.enc.64x64_conv.bias';
      const steps = vectors.tensor(`optimizer.step.${name}`).item();
      expect(state.tensors.get('adam.step')!.item()).toBeGreaterThan(steps);
      const close = (a: string, b: string, tolerance: number) => {
        const [x, y] = [state.tensors.get(a)!, vectors.tensor(b)];
        expect(x.sub(y).abs().max().item()).toBeLessThan(tolerance * y.abs().max().item());
      };
      close(`net.${name}`, `net.${name}`, 1e-3);
      close(`ema.${name}`, `ema.${name}`, 1e-1);
      for (const tensor of state.tensors.values()) tensor.dispose();
      vectors.file.close();

      // And the new run resumes as any other.
      const again = await train({ resume: result.runDir, durationKimg: 12.006 });
      expect(again).toMatchObject({ runDir: result.runDir });
      expect(again.nimg).toBeGreaterThanOrEqual(12_006);
    }
  });

  it('a snapshot gives its weights to a network that has more', async () => {
    const events: TrainEvent[] = [];
    await train(
      {
        ...common,
        transfer: pkl,
        arch: 'ddpmpp',
        modelChannels: 8,
        channelMult: [1, 1],
        numBlocks: 2,
        attnResolutions: [16],
        durationKimg: 0.002,
      },
      { onEvent: (e) => events.push(e) },
    );
    const transfer = events.find((e) => e.type === 'transfer');
    expect(transfer?.message).toMatch(
      /^transferred \d+ tensors from .*network-snapshot-000012\.pkl, \d+ new/,
    );
    expect(transfer?.details.some((line) => line.startsWith('new: model.enc.64x64_block1.'))).toBe(true);
  });

  it('the command line imports and exports', async () => {
    expect(await run(['import', pkl, '--out', join(dir, 'a.safetensors')])).toBe(0);
    expect(
      await run([
        'export',
        '--network',
        join(dir, 'a.safetensors'),
        '--format',
        'torch',
        '--out',
        join(dir, 'a.pt'),
      ]),
    ).toBe(0);
    expect(existsSync(join(dir, 'a.json'))).toBe(true);
    expect(
      await run([
        'export',
        '--network',
        join(dir, 'a.pt'),
        '--format',
        'safetensors',
        '--out',
        join(dir, 'b.safetensors'),
      ]),
    ).toBe(0);
    expect(await run(['export', '--format', 'torch'])).toBe(2);
    expect(await run(['import', join(data, '0.png')])).toBe(1);
    expect(await run(['export', '--network', 'x', '--format', 'onnxx'])).toBe(2);
  });

  it('a state is no snapshot, and the other way round', async () => {
    await expect(train({ ...common, transfer: pt })).rejects.toThrow(
      /is a training state; name the network-snapshot/,
    );
    const copy = join(dir, 'training-state-000013.pt');
    cpSync(pkl, copy);
    await expect(train({ ...common, resume: copy })).rejects.toThrow(/is no training state/);
  });
});
