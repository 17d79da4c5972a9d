/** Networks from wherever they are: our snapshots, exported weights, official files; near and far. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { readSafetensors, writeSafetensors } from '@patch-diffusion/torch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { METADATA_KEY } from '../../src/formats/file-description.js';
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

/** The snapshot again with other entries in its description. */
async function withInfo(change: object): Promise<string> {
  const file = join(scratch, 'altered.safetensors');
  const { tensors, metadata } = await readSafetensors(snapshot);
  const info = JSON.parse(metadata[METADATA_KEY]) as object;
  await writeSafetensors(file, tensors, { [METADATA_KEY]: JSON.stringify({ ...info, ...change }) });
  for (const tensor of tensors.values()) tensor.dispose();
  return file;
}

describe('descriptions are checked before anything is built', () => {
  const network = (change: object) => ({ precond: { ...spec, network: { ...spec.network, ...change } } });

  it.each([
    ['a billion blocks', network({ numBlocks: 1e9 }), /network's argument network\.numBlocks cannot be used/],
    ['more blocks than tensors', network({ numBlocks: 60 }), /block1\.conv1\.weight is missing/],
    ['a billion channels', network({ modelChannels: 1e9 }), /network\.modelChannels cannot be used/],
    ['a width of text', network({ channelMult: '1' }), /network\.channelMult cannot be used/],
    [
      'attention of another type',
      network({ attnResolutions: 16 }),
      /network\.attnResolutions cannot be used/,
    ],
    [
      'sides that cannot be halved',
      network({ imgResolution: 17, channelMult: [1, 1] }),
      /17×17 px cannot be halved/,
    ],
    ['channels that cannot be normalised', network({ modelChannels: 34 }), /34 channels do not make/],
    ['a billion sampler steps', { train: { sampleSteps: 1e9 } }, /field train\.sampleSteps cannot be used/],
    ['steps of text', { train: { sampleSteps: '18' } }, /field train\.sampleSteps cannot be used/],
    ['images of text', { nimg: '7' }, /field nimg cannot be used/],
    ['a later version', { formatVersion: 2 }, /newer version of patch-diffusion; update/],
  ])('%s', async (_, change, message) => {
    const file = await withInfo(change);
    const before = torch.liveTensors();
    await expect(loadAnySnapshot(file)).rejects.toThrow(message);
    await expect(loadAnySnapshot(file)).rejects.toThrow(UserError);
    expect(torch.liveTensors()).toBe(before);
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
