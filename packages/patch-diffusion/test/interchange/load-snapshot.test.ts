/** Networks from wherever they are: our snapshots, exported weights, official files; near and far. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import { writeSnapshot } from '../../src/interchange/snapshot.js';

const scratch = mkdtempSync(join(tmpdir(), 'patch-diffusion-load-'));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));

const spec: PrecondSpec = {
  type: 'pedm',
  network: {
    type: 'SongUNet',
    imgResolution: 16,
    inChannels: 5,
    outChannels: 3,
    modelChannels: 8,
    channelMult: [1],
    numBlocks: 1,
  },
};
const snapshot = join(scratch, 'net.safetensors');
beforeAll(async () => {
  using denoiser = createDenoiser(spec);
  await writeSnapshot(snapshot, denoiser, {
    loss: { type: 'edm' },
    train: null,
    dataset: { name: 'd', classNames: null },
    nimg: 7,
    step: 1,
  });
});

describe('loadAnySnapshot', () => {
  it('loads from an address', async () => {
    const server = createServer((_, response) => void response.end(readFileSync(snapshot)));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const cacheDir = join(scratch, 'cache');
    const before = torch.liveTensors();
    const loaded = await loadAnySnapshot(`http://127.0.0.1:${port}/net.safetensors`, { cacheDir });
    server.close();
    server.closeAllConnections();
    expect(loaded.info.nimg).toBe(7);
    expect(loaded.file.startsWith(cacheDir)).toBe(true);
    loaded.denoiser.dispose();
    expect(torch.liveTensors()).toBe(before);
  });

  it('says what is wrong with a file', async () => {
    await expect(loadAnySnapshot(join(scratch, 'none.safetensors'))).rejects.toThrow(/none\.safetensors/);
    const text = join(scratch, 'text.pkl');
    writeFileSync(text, 'hello');
    await expect(loadAnySnapshot(text)).rejects.toThrow(/text\.pkl/);
  });
});
