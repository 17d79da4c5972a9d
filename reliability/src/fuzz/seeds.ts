/** Sound files of all kinds, made here, from which damaged ones are made. */
import { existsSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, gzipSync } from 'node:zlib';
import * as torch from '@patch-diffusion/torch';
import { createDenoiser } from 'patch-diffusion/method';
import sharp from 'sharp';
import { pickleStateDict } from '../../../packages/patch-diffusion/dist/formats/torch-file/pickle-writer.js';
import { zipArchive } from '../../../packages/patch-diffusion/dist/formats/zip-writer.js';
import { writeSnapshot } from '../../../packages/patch-diffusion/dist/interchange/snapshot.js';

/** A zip file with these members, sound whatever they hold. */
export async function zipOf(members: readonly { name: string; data: Uint8Array }[]): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of zipArchive(members)) parts.push(part);
  return Buffer.concat(parts);
}

/** Small images of all formats and kinds. */
export async function images(): Promise<Buffer[]> {
  const noise = { type: 'gaussian', mean: 128, sigma: 60 } as const;
  const make = (channels: 3 | 4) =>
    sharp({
      create: {
        width: 17,
        height: 13,
        channels,
        background: { r: 200, g: 90, b: 10, alpha: 0.5 },
        noise: channels === 3 ? noise : undefined,
      },
    });
  return Promise.all([
    make(3).png({ compressionLevel: 0 }).toBuffer(),
    make(4).png().toBuffer(),
    make(3).png({ palette: true }).toBuffer(),
    make(3).toColourspace('rgb16').png().toBuffer(),
    make(3).greyscale().png({ progressive: true }).toBuffer(),
    make(3).jpeg().toBuffer(),
    make(3).jpeg({ progressive: true }).withMetadata({ orientation: 6 }).toBuffer(),
    make(4).webp().toBuffer(),
    make(3).webp({ lossless: true }).toBuffer(),
    make(4).gif().toBuffer(),
    make(3).tiff({ compression: 'none' }).toBuffer(),
    make(4).tiff({ compression: 'lzw', tile: true, tileWidth: 16, tileHeight: 16 }).toBuffer(),
    make(3).avif({ effort: 0 }).toBuffer(),
  ]);
}

/** A PNG with a chunk replaced; its checksum is right. */
export function withChunk(png: Buffer, type: string, change: (data: Buffer) => Buffer): Buffer {
  const parts: Buffer[] = [png.subarray(0, 8)];
  for (let at = 8; at + 12 <= png.length; ) {
    const length = png.readUInt32BE(at);
    const name = png.toString('latin1', at + 4, at + 8);
    const data = png.subarray(at + 8, at + 8 + length);
    const body = Buffer.concat([
      Buffer.from(name, 'latin1'),
      name === type ? change(Buffer.from(data)) : data,
    ]);
    const [head, tail] = [Buffer.alloc(4), Buffer.alloc(4)];
    head.writeUInt32BE(body.length - 4);
    tail.writeUInt32BE(crc32(body));
    parts.push(head, body, tail);
    at += 12 + length;
  }
  return Buffer.concat(parts);
}

/** An array as NumPy stores it. */
export function npy(shape: readonly number[], type = '<f8', header?: string): Buffer {
  const text = header ?? `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`;
  const padded = `${text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11)}\n`;
  const head = Buffer.from('\x93NUMPY\x01\x00\x00\x00', 'latin1');
  head.writeUInt16LE(padded.length, 8);
  const count = shape.reduce((product, n) => product * n, 1);
  return Buffer.concat([head, Buffer.from(padded, 'latin1'), Buffer.alloc(count * Number(type.slice(2)), 1)]);
}

/** Images or labels as of MNIST. */
export function idx(dims: readonly number[]): Buffer {
  const head = Buffer.alloc(4 + 4 * dims.length);
  head.writeUInt32BE(0x0800 + dims.length);
  for (const [i, size] of dims.entries()) head.writeUInt32BE(size, 4 + 4 * i);
  return Buffer.concat([
    head,
    Buffer.alloc(
      dims.reduce((a, b) => a * b, 1),
      3,
    ),
  ]);
}

export const gzip = (data: Uint8Array): Buffer => gzipSync(data);

/** A snapshot without its checksum, which would refuse nearly every change before anything else is looked at. */
export async function snapshot(folder: string): Promise<Buffer> {
  const file = join(folder, 'seed.safetensors');
  const network = {
    type: 'SongUNet',
    imgResolution: 8,
    inChannels: 5,
    outChannels: 3,
    modelChannels: 4,
  } as const;
  const denoiser = createDenoiser({
    type: 'pedm',
    network: { ...network, channelMult: [1], numBlocks: 1, attnResolutions: [] },
  });
  const dataset = { name: 'seed', classNames: null, labels: null };
  await writeSnapshot(file, denoiser, { loss: { type: 'edm' }, train: null, dataset, nimg: 10, step: 1 });
  denoiser.dispose();
  const bytes = await readFile(file);
  // Another key of the same length.
  bytes.write('notes_', bytes.indexOf('"sha256":') + 1, 'latin1');
  return bytes;
}

/** Latents of two images. */
export async function latents(folder: string): Promise<Buffer> {
  const file = join(folder, 'seed-latents.safetensors');
  const info = {
    ...{ kind: 'latents', formatVersion: 1, labelDim: 2, classNames: ['a', 'b'] },
    ...{ image: { height: 16, width: 16, channels: 3 }, downFactor: 8, scale: 1, shift: 0 },
    ...{ std: 1, channelStd: [1, 1, 1, 1], autoencoder: { path: 'vae', sha256: '0'.repeat(64) } },
    ...{ source: { path: 'photos', skipped: [], skippedCount: 0 } },
  };
  const moments = torch.randn([2, 1, 2, 4, 2, 2]);
  const labels = torch.tensor(BigInt64Array.of(0n, 1n));
  await torch.writeSafetensors(
    file,
    [
      ['moments', moments],
      ['labels', labels],
    ],
    { patch_diffusion: JSON.stringify(info) },
  );
  return readFile(file);
}

/** PyTorch files: a state dict, and official checkpoints where the shared folder is. */
export async function torchFiles(): Promise<{
  zips: Buffer[];
  pickles: Buffer[];
  members: { name: string; data: Uint8Array }[];
}> {
  const dict = pickleStateDict([
    { name: 'model.weight', key: 0, storage: 'FloatStorage', shape: [2, 2] },
    { name: 'model.bias', key: 1, storage: 'HalfStorage', shape: [3] },
  ]);
  const members = [
    { name: 'w/data.pkl', data: dict },
    { name: 'w/data/0', data: Buffer.alloc(16, 1) },
    { name: 'w/data/1', data: Buffer.alloc(6, 1) },
    { name: 'w/version', data: Buffer.from('3\n') },
  ];
  const shared = process.env.SHARED_DIR ?? join(import.meta.dirname, '../../../../shared');
  const golden = join(process.env.GOLDEN_DIR ?? join(shared, 'golden'), 'checkpoints/patch_ddpmpp');
  const official = (...names: string[]) =>
    names
      .map((name) => join(golden, name))
      .filter((file) => existsSync(file))
      .map((file) => readFileSync(file));
  return {
    members,
    zips: [await zipOf(members), ...official('training-state-000012.pt')],
    pickles: official('network-snapshot-000012.pkl', 'legacy/training-state-000012.pt'),
  };
}
