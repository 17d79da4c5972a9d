/** Exported weights: read back here, and by real Python where there is one. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { readSafetensors, type Tensor } from '@patch-diffusion/torch';
import { afterAll, describe, expect, it } from 'vitest';
import { collectGarbage } from '../../../torch/test/collect-garbage.js';
import type { PrecondSpec } from '../../src/diffusion/precond-spec.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { FileSource } from '../../src/formats/pickle/byte-source.js';
import { readTorchFile, type TensorRef } from '../../src/formats/torch-file/index.js';
import { writeStateDict } from '../../src/formats/torch-file/write.js';
import { zipArchive } from '../../src/formats/zip-writer.js';
import { writeExport } from '../../src/interchange/export.js';
import { loadAnySnapshot } from '../../src/interchange/load-snapshot.js';
import { officialFromPrecond, precondFromJson } from '../../src/interchange/official-config.js';
import { pythonWith } from '../helpers/python.js';

const dir = mkdtempSync(join(tmpdir(), 'patch-diffusion-export-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const shape = {
  imgResolution: 16,
  inChannels: 5,
  outChannels: 3,
  modelChannels: 8,
  channelMult: [1, 1],
  numBlocks: 1,
};
const specs: PrecondSpec[] = [
  {
    type: 'pedm',
    network: { type: 'SongUNet', ...shape, attnResolutions: [8] },
    image: { height: 8, width: 16 },
  },
  { type: 'pedm', network: { type: 'DhariwalUNet', ...shape, labelDim: 3 }, sigmaMax: null, sigmaData: 0.5 },
  {
    type: 'vp',
    network: { type: 'SongUNet', ...shape, inChannels: 3 },
    betaD: 19.9,
    epsilonT: 1e-5,
    M: 1000,
  },
  { type: 'iddpm', network: { type: 'DhariwalUNet', ...shape, inChannels: 3, outChannels: 6 }, C1: 0.001 },
];

const python = pythonWith('torch');

const digest = (t: Tensor): string => {
  const { buffer, byteOffset, byteLength } = t.toTypedArray();
  return createHash('sha256')
    .update(new Uint8Array(buffer, byteOffset, byteLength))
    .digest('hex');
};

describe('constructor arguments', () => {
  it.each(specs)('$type $network.type: there and back', (spec) => {
    const back = precondFromJson(
      JSON.parse(JSON.stringify(officialFromPrecond(spec))) as Record<string, unknown>,
    );
    expect(back).toEqual({ ...spec, network: { labelDim: 0, ...spec.network } });
  });
});

describe.each(['torch', 'safetensors'] as const)('%s', (format) => {
  it.each(specs)('$type $network.type loads as the same network', async (spec) => {
    await collectGarbage();
    const before = torch.liveTensors();
    const denoiser = createDenoiser(spec);
    const out = join(dir, `w-${spec.type}-${spec.network.type}.${format === 'torch' ? 'pt' : 'safetensors'}`);
    await writeExport(out, denoiser, spec, format);
    const { denoiser: loaded } = await loadAnySnapshot(out);
    expect(loaded.imageExtent).toEqual(denoiser.imageExtent);
    const [a, b] = [denoiser, loaded].map((d) => [...d.stateDict()].map(([name, t]) => [name, digest(t)]));
    expect(b).toEqual(a);
    denoiser.dispose();
    loaded.dispose();
    expect(torch.liveTensors()).toBe(before);
  });
});

describe('the PyTorch file', () => {
  const tensors = () =>
    new Map<string, Tensor>([
      ['a.weight', torch.arange(24, { dtype: 'float32' }).reshape([2, 3, 4])],
      ['scalar', torch.tensor(3, { dtype: 'float32' })],
      ['empty', torch.zeros([0, 5])],
      ['half', torch.ones([3], { dtype: 'float16' })],
      ['brain', torch.ones([3], { dtype: 'bfloat16' })],
      ['long', torch.tensor(new BigInt64Array([1n, -(2n ** 40n)]))],
      ['flags', torch.tensor([1, 0], { dtype: 'bool' })],
      ['ünicode', torch.ones([1], { dtype: 'float64' })],
      ['transposed', torch.arange(6, { dtype: 'float32' }).reshape([2, 3]).t()],
    ]);

  it('has its data at multiples of 64 bytes, and is read by our reader', async () => {
    const file = join(dir, 'mixed.pt');
    const given = tensors();
    await writeStateDict(file, given);
    const source = new FileSource(file);
    const dict = (await readTorchFile(source, file)) as Map<string, TensorRef>;
    expect([...dict.keys()]).toEqual([...given.keys()]);
    for (const [name, ref] of dict) {
      expect(ref.storage.data!.begin % 64, name).toBe(0);
      const back = ref.toTensor();
      expect([back.shape, back.dtype, digest(back)], name).toEqual([
        given.get(name)!.shape,
        given.get(name)!.dtype,
        digest(given.get(name)!),
      ]);
      back.dispose();
    }
    source.close();
    for (const t of given.values()) t.dispose();
  });

  it('is the same file for the same tensors', async () => {
    const given = tensors();
    const [a, b] = [join(dir, 'one', 'w.pt'), join(dir, 'two', 'w.pt')];
    for (const file of [a, b]) {
      execFileSync('mkdir', ['-p', join(file, '..')]);
      await writeStateDict(file, given);
    }
    expect(readFileSync(a).equals(readFileSync(b))).toBe(true);
    for (const t of given.values()) t.dispose();
  });

  it.skipIf(python === null)(
    `is read by torch.load(weights_only=True)${python === null ? ' (skipped: no Python with torch; set PYTHON)' : ''}`,
    async () => {
      const file = join(dir, 'for-python.pt');
      const given = tensors();
      await writeStateDict(file, given);
      const script = `
import torch, json, hashlib, sys, zipfile
assert zipfile.ZipFile(sys.argv[1]).testzip() is None
def digest(t):
    return hashlib.sha256(bytes(t.contiguous().flatten().view(torch.uint8).tolist()) if t.numel() else b'').hexdigest()
for options in ({}, {'mmap': True}):
    d = torch.load(sys.argv[1], weights_only=True, **options)
    out = {k: [list(v.shape), str(v.dtype)[6:], digest(v)] for k, v in d.items()}
print(json.dumps(out))`;
      const answer = execFileSync(python!, ['-I', '-c', script, file], {
        env: { ...process.env, OMP_NUM_THREADS: '1' },
      }).toString();
      const expected = Object.fromEntries(
        [...given].map(([name, t]) => [name, [t.shape, t.dtype, digest(t)]]),
      );
      expect(JSON.parse(answer)).toEqual(expected);
      for (const t of given.values()) t.dispose();
    },
  );

  it.skipIf(python === null)('plain safetensors are read by the same names', async () => {
    const denoiser = createDenoiser(specs[0]!);
    const file = join(dir, 'plain.safetensors');
    await writeExport(file, denoiser, specs[0]!, 'safetensors');
    const script = `
import json, struct, sys
f = open(sys.argv[1], 'rb'); h = json.loads(f.read(struct.unpack('<Q', f.read(8))[0]))
m = h.pop('__metadata__'); print(json.dumps([sorted(h), m['format'], json.loads(m['config'])['class_name']]))`;
    const answer = JSON.parse(execFileSync(python!, ['-I', '-c', script, file]).toString()) as unknown;
    expect(answer).toEqual([[...denoiser.stateDict().keys()].sort(), 'pt', 'Patch_EDMPrecond']);
    const { tensors: back } = await readSafetensors(file);
    for (const t of back.values()) t.dispose();
    denoiser.dispose();
  });
});

describe('archives', () => {
  it('beyond 65,535 members have ZIP64 records that our reader understands', async () => {
    const members = function* () {
      yield { name: 'x/data.pkl', data: Buffer.from('\x80\x02}.', 'latin1') };
      for (let i = 0; i < 66_000; i++) yield { name: `x/data/${i}`, data: new Uint8Array(0) };
    };
    const parts: Uint8Array[] = [];
    for await (const part of zipArchive(members())) parts.push(part);
    const { MemorySource } = await import('../../src/formats/pickle/byte-source.js');
    expect(await readTorchFile(new MemorySource(Buffer.concat(parts)), 'big.pt')).toEqual(new Map());
  });
});
