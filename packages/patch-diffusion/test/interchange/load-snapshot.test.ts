/** Networks from wherever they are: our snapshots, exported weights, official files; near and far. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { readSafetensors, writeSafetensors } from '@patch-diffusion/torch';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import { UserError } from '../../src/common/errors.js';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { METADATA_KEY } from '../../src/formats/file-description.js';
import { readNpz } from '../../src/formats/npz.js';
import { zipArchive } from '../../src/formats/zip-writer.js';
import { importCheckpoint } from '../../src/interchange/import.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import { officialFromPrecond } from '../../src/interchange/official-config.js';
import { writeSnapshot } from '../../src/interchange/snapshot.js';
import { loadAutoencoder } from '../../src/latents/autoencoder-folder.js';
import { readSnapshotInfo } from '../../src/run/snapshot-info.js';
import { expectClose } from '../helpers/golden.js';
import { Name, PersistentId, pickle, Tuple, tensorOf } from '../helpers/pickler.js';
import { writeTinyAutoencoder } from '../helpers/tiny-autoencoder.js';

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
    await collectGarbage();
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
    await collectGarbage();
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

describe('state dicts of training scripts', () => {
  type Entry = readonly [name: string, tensor: torch.Tensor];

  /** A `torch.save` archive of nested dictionaries around the tensors of a snapshot, and its description beside it. */
  async function checkpoint(name: string, wrap: (dict: Map<string, unknown>) => unknown): Promise<string> {
    const { tensors } = await readSafetensors(snapshot);
    const entries: Entry[] = [...tensors];
    const reference = (key: number, { numel, shape }: torch.Tensor) =>
      tensorOf(
        new PersistentId(new Tuple(['storage', new Name('torch.FloatStorage'), String(key), 'cpu', numel])),
        [...shape],
      );
    const dict = new Map(entries.map(([tensor, t], key) => [tensor, reference(key, t)]));
    const members = [
      { name: 'w/data.pkl', data: pickle(wrap(dict), 2) },
      ...entries.map(([, t], key) => {
        const { buffer, byteOffset, byteLength } = t.toTypedArray();
        return { name: `w/data/${key}`, data: new Uint8Array(buffer, byteOffset, byteLength) };
      }),
    ];
    const parts: Uint8Array[] = [];
    for await (const part of zipArchive(members)) parts.push(part);
    const file = join(scratch, `${name}.pt`);
    writeFileSync(file, Buffer.concat(parts));
    writeFileSync(join(scratch, `${name}.json`), JSON.stringify(officialFromPrecond(spec)));
    for (const [, tensor] of entries) tensor.dispose();
    return file;
  }

  const prefixed = (prefix: string, dict: Map<string, unknown>) =>
    new Map([...dict].map(([name, tensor]) => [prefix + name, tensor]));

  it.each<[string, (dict: Map<string, unknown>) => unknown]>([
    ['bare', (dict) => dict],
    ['of DataParallel', (dict) => prefixed('module.', dict)],
    ['compiled', (dict) => prefixed('_orig_mod.', dict)],
    ['compiled and parallel', (dict) => prefixed('_orig_mod.module.', dict)],
    [
      'with a compiled part',
      (dict) => new Map([...dict].map(([n, t]) => [n.replace('model.', 'model._orig_mod.'), t])),
    ],
    ['in state_dict', (state_dict) => new Map<string, unknown>(Object.entries({ epoch: 3, state_dict }))],
    [
      'in ema, before the weights themselves',
      (ema) => new Map<string, unknown>(Object.entries({ net: new Map([['x', 1]]), ema, step: 1 })),
    ],
    ['in ema.module', (dict) => new Map([['ema', prefixed('module.', dict)]])],
  ])('%s', async (name, wrap) => {
    const file = await checkpoint(name.replace(/\W/g, '-'), wrap);
    const { denoiser } = await loadAnySnapshot(file);
    const own = await loadAnySnapshot(snapshot);
    for (const [tensor, expected] of own.denoiser.stateDict())
      expectClose(denoiser.stateDict().get(tensor)!, expected, 0, 0, tensor);
    denoiser.dispose();
    own.denoiser.dispose();
  });

  it('in safetensors, too', async () => {
    const { tensors } = await readSafetensors(snapshot);
    const file = join(scratch, 'wrapped.safetensors');
    const wrapped = [...tensors].map(([name, t]): Entry => [`module.${name}`, t]);
    await writeSafetensors(file, wrapped, { config: JSON.stringify(officialFromPrecond(spec)) });
    for (const tensor of tensors.values()) tensor.dispose();
    (await loadAnySnapshot(file)).denoiser.dispose();
  });
});

describe('pointers of git-lfs in place of files', () => {
  const text = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 223490\n`;

  it.each(['net.safetensors', 'network-snapshot-000001.pkl', 'weights.pt'])('%s', async (name) => {
    const file = join(scratch, 'lfs', name);
    mkdirSync(join(scratch, 'lfs'), { recursive: true });
    writeFileSync(file, text);
    const message = `${file} is a git-lfs pointer, not the file itself; run \`git lfs pull\` in its repository`;
    await expect(loadAnySnapshot(file)).rejects.toThrow(message);
    if (name.endsWith('.safetensors')) await expect(readSnapshotInfo(file)).rejects.toThrow(message);
    else await expect(importCheckpoint(file)).rejects.toThrow(message);
  });

  it('weights of an autoencoder', async () => {
    const folder = await writeTinyAutoencoder(join(scratch, 'vae'));
    const weights = join(folder, 'diffusion_pytorch_model.safetensors');
    writeFileSync(weights, text);
    await expect(loadAutoencoder(folder)).rejects.toThrow(/model\.safetensors is a git-lfs pointer/);
  });

  it('reference statistics', async () => {
    const file = join(scratch, 'stats.npz');
    writeFileSync(file, text);
    await expect(readNpz(file)).rejects.toThrow(/stats\.npz is a git-lfs pointer/);
  });
});
