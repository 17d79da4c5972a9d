/** `--guide` takes whatever `--network` takes, and run folders. */
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { type GenerateEvent, generate } from '../../src/index.js';
import { writeExport } from '../../src/interchange/export.js';
import { writeSnapshot } from '../../src/interchange/snapshot.js';
import { goldenDir } from '../helpers/golden.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const spec: PrecondSpec = {
  type: 'pedm',
  network: {
    type: 'SongUNet',
    ...{ imgResolution: 16, inChannels: 5, outChannels: 3, modelChannels: 8, channelMult: [1], numBlocks: 1 },
  },
};

let dir: string;
let server: Server;
beforeAll(async () => {
  dir = await temporaryFolder();
  server = createServer((request, response) => {
    const file = join(dir, new URL(request.url!, 'http://x').pathname.split('/').at(-1)!);
    response.end(readFileSync(file));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  vi.stubEnv('PATCH_DIFFUSION_CACHE', join(dir, 'cache'));
  vi.stubEnv('HF_ENDPOINT', origin());
  for (const [seed, name] of ['network', 'guide'].entries()) {
    torch.manualSeed(seed);
    using denoiser = createDenoiser(spec);
    torch.noGrad(() => {
      // Networks begin with zero output.
      for (const p of denoiser.parameters()) torch.scope(() => void p.copy_(torch.randn(p.shape).mul(0.2)));
    });
    const info = { loss: { type: 'edm' }, train: null, nimg: 0, step: 0 } as const;
    const dataset = { name: 'd', classNames: null };
    await writeSnapshot(join(dir, `${name}.safetensors`), denoiser, { ...info, dataset });
    await writeExport(join(dir, `${name}.pt`), denoiser, spec, 'torch');
  }
});
afterAll(() => {
  vi.unstubAllEnvs();
  server.close();
  server.closeAllConnections();
});
const origin = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

const draw = async (guide: string, network = join(dir, 'network.safetensors')): Promise<Buffer> => {
  const out = join(dir, 'out');
  rmSync(out, { recursive: true, force: true });
  const { files } = await generate({ network, guide, cfg: 3, out, seeds: [1], steps: 2, device: 'cpu' });
  return readFileSync(files[0]);
};

describe('--guide', () => {
  it('takes snapshots, exported weights, run folders, addresses and the Hub', async () => {
    const expected = await draw(join(dir, 'guide.safetensors'));
    expect(expected.equals(await draw(join(dir, 'network.safetensors')))).toBe(false);

    const run = join(dir, '00000-run');
    mkdirSync(join(run, 'snapshots'), { recursive: true });
    cpSync(join(dir, 'guide.safetensors'), join(run, 'snapshots', 'network-snapshot-000001.safetensors'));
    for (const guide of [
      join(dir, 'guide.pt'),
      run,
      `${origin()}/guide.safetensors?X-Amz-Signature=S3CR3T`,
      'hf:owner/repository/guide.safetensors',
    ]) {
      expect(expected.equals(await draw(guide)), guide).toBe(true);
    }
  });

  const pkl = join(goldenDir, 'checkpoints', 'patch_ddpmpp', 'network-snapshot-000012.pkl');
  it.skipIf(!existsSync(pkl))(
    `takes official pickles${existsSync(pkl) ? '' : ` (skipped: there is no ${pkl})`}`,
    async () => {
      expect((await draw(pkl, pkl)).subarray(1, 4).toString()).toBe('PNG');
      await expect(draw(`${origin()}/guide.safetensors?sig=S3CR3T`, pkl)).rejects.toThrow(
        /^--guide http:\/\/[^?]*\/guide\.safetensors makes images of 16×16×3, the network of 64×64×3/,
      );
    },
  );

  it('auto: takes the snapshot of the run that has seen about an eighth of the images, and says which', async () => {
    const run = join(dir, '00001-guided');
    const snapshot = (kimg: number) =>
      join(run, 'snapshots', `network-snapshot-${`${kimg}`.padStart(6, '0')}.safetensors`);
    mkdirSync(join(run, 'snapshots'), { recursive: true });
    cpSync(join(dir, 'network.safetensors'), snapshot(16));
    const options = { run, guide: 'auto', cfg: 3, seeds: [1], steps: 2, device: 'cpu' };
    const out = join(dir, 'auto');
    await expect(generate({ ...options, out })).rejects.toThrow(
      /^--guide auto: .*00001-guided has no snapshot from before network-snapshot-000016/,
    );
    cpSync(join(dir, 'guide.safetensors'), snapshot(3));
    // Others are not even read.
    for (const kimg of [0, 1, 12]) writeFileSync(snapshot(kimg), '');
    const events: GenerateEvent[] = [];
    const { files } = await generate({ ...options, out }, { onEvent: (event) => events.push(event) });
    expect(events).toContainEqual({ type: 'guide', network: snapshot(3) });
    expect(readFileSync(files[0]).equals(await draw(join(dir, 'guide.safetensors')))).toBe(true);
    await expect(generate({ network: snapshot(16), guide: 'auto', cfg: 2, out })).rejects.toThrow('--run');
  });

  it('says what a missing one is', async () => {
    await expect(draw(join(dir, 'none.safetensors'))).rejects.toThrow(/none\.safetensors: there is no such/);
  });
});
