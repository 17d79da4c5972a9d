/** Files that carry their own checksum. */
import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import { writeSafetensors } from '../src/index.js';
import { verifySafetensors } from '../src/safetensors/checksum.js';
import './close.js';

let folder: string;
let file: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'checksum-'));
  file = join(folder, 'good.safetensors');
  // Larger than what is read at once.
  const tensors: [string, torch.Tensor][] = [
    ['sha256', torch.arange(1_200_000)],
    ['small', torch.tensor(Uint8Array.of(7))],
  ];
  // What looks like the entry, but is a text.
  const note = `"sha256":"${'0'.repeat(64)}"`;
  await writeSafetensors(file, tensors, { note }, { checksum: true });
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it('is the SHA-256 of the file with zeros in its place', async () => {
  const { metadata } = torch.SafetensorsFile.openSync(file);
  const { sha256 } = metadata;
  const text = await readFile(file, 'latin1');
  expect(text.split(sha256)).toHaveLength(2);
  const zeros = text.replace(sha256, '0'.repeat(64));
  expect(createHash('sha256').update(zeros, 'latin1').digest('hex')).toBe(sha256);
  expect(await verifySafetensors(file)).toBe(true);
});

it('notices a bit that changed, wherever it is', async () => {
  const bytes = await readFile(file);
  const end = bytes.indexOf('{"dtype"');
  const checksum = bytes.indexOf('"sha256":"', bytes.indexOf('"note"')) + 10;
  for (const at of [
    bytes.indexOf('note') + 1,
    checksum + 3,
    end + 1,
    end + 300,
    4_700_000,
    bytes.length - 1,
  ]) {
    const damaged = Buffer.from(bytes);
    damaged[at] ^= 1;
    const path = join(folder, 'flipped.safetensors');
    await writeFile(path, damaged);
    await expect(verifySafetensors(path), String(at)).rejects.toBeInstanceOf(torch.SafetensorsError);
  }
  await expect(verifySafetensors(join(folder, 'flipped.safetensors'))).rejects.toMatchObject({
    code: 'damaged',
    message: expect.stringContaining('its contents do not fit the sha256 in its metadata'),
  });
});

it('is not asked for, and a file that ends early is no file', async () => {
  const plain = join(folder, 'plain.safetensors');
  const tensor = torch.tensor([1, 2]);
  await writeSafetensors(plain, [['x', tensor]], { format: 'pt' });
  expect(await verifySafetensors(plain)).toBe(false);
  await truncate(plain, (await readFile(plain)).length - 1);
  await expect(verifySafetensors(plain)).rejects.toMatchObject({ code: 'truncated' });
});
