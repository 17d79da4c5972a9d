/** What is fuzzed: for each kind of file, how damaged ones are made, and who reads them. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openImages, resolveTrainOptions } from 'patch-diffusion';
import { readRunJson, readSnapshotInfo } from 'patch-diffusion/run';
import { stringify } from 'yaml';
import { readConfigFile } from '../../../packages/patch-diffusion/dist/config/config-file.js';
import { decodeImage, readImageHeader } from '../../../packages/patch-diffusion/dist/data/decode.js';
import { resolveLabels } from '../../../packages/patch-diffusion/dist/data/labels.js';
import { openLatents } from '../../../packages/patch-diffusion/dist/data/latents.js';
import { readNpz } from '../../../packages/patch-diffusion/dist/formats/npz.js';
import { MemorySource } from '../../../packages/patch-diffusion/dist/formats/pickle/byte-source.js';
import { readCheckpoint } from '../../../packages/patch-diffusion/dist/interchange/official-checkpoint.js';
import { precondFromText } from '../../../packages/patch-diffusion/dist/interchange/official-config.js';
import { loadSnapshot } from '../../../packages/patch-diffusion/dist/interchange/snapshot.js';
import { loadAutoencoder } from '../../../packages/patch-diffusion/dist/latents/autoencoder-folder.js';
import { readLabelFile } from '../../../packages/patch-diffusion/dist/sampling/label-file.js';
import { readStateInfo } from '../../../packages/patch-diffusion/dist/training/checkpoint.js';
import { isExpected } from './expected.js';
import { jsonFiles } from './json-files.js';
import { type Below, mutateBytes, mutateJson, pick } from './mutations.js';
import * as seeds from './seeds.js';

/** Makes a damaged file and gives it to its readers; they throw. */
export type Case = (below: Below) => Promise<void>;

export const TARGET_NAMES = [
  'zip',
  'safetensors',
  'pickle',
  'pt',
  'npz',
  'idx',
  'json',
  'yaml',
  'images',
] as const;
export type TargetName = (typeof TARGET_NAMES)[number];

/** @param folder for files; each case overwrites those before. @returns a text where it cannot be fuzzed here: why */
export const targets: Record<TargetName, (folder: string) => Promise<Case | string>> = {
  zip: async (folder) => {
    const pictures = await seeds.images();
    const labels = Buffer.from('{"labels": [["00000/img00000000.png", 1], ["00000/img00000001.png", 0]]}');
    const members = [
      { name: '00000/img00000000.png', data: pictures[0] },
      { name: '00000/img00000001.png', data: pictures[0] },
      { name: 'dataset.json', data: labels },
    ];
    const sound = await seeds.zipOf(members);
    const path = join(folder, 'set.zip');
    return async (below) => {
      const odd = () =>
        members.map(({ name, data }) => ({
          name: below(3)
            ? name
            : mutateBytes(Buffer.from(name), [Buffer.from('../é/\u0000')], below).toString('utf8'),
          data: below(3) ? data : mutateBytes(data, pictures, below),
        }));
      write(path, below(2) ? mutateBytes(sound, pictures, below) : await seeds.zipOf(odd()));
      await readImages(path);
    };
  },

  safetensors: async (folder) => {
    const files = [await seeds.snapshot(folder), await seeds.latents(folder)];
    const path = join(folder, 'case.safetensors');
    return async (below) => {
      const file = pick(files, below);
      write(path, below(2) ? mutateBytes(file, files, below) : withHeader(file, below));
      await anyOf([
        async () => (await loadSnapshot(path)).denoiser.dispose(),
        () => readSnapshotInfo(path),
        () => readStateInfo(path),
        async () => {
          const set = await openLatents(path);
          await set.ready([0]).finally(() => set.close());
        },
      ]);
    };
  },

  pickle: async () => {
    const { pickles } = await seeds.torchFiles();
    if (pickles.length === 0) return 'it needs official checkpoints, in the shared folder';
    return async (below) => {
      await readCheckpoint(new MemorySource(mutateBytes(pick(pickles, below), pickles, below)), 'case.pkl');
    };
  },

  pt: async () => {
    const { zips, members, pickles } = await seeds.torchFiles();
    return async (below) => {
      const odd = () =>
        members.map(({ name, data }) => ({
          name,
          data: below(2) ? data : mutateBytes(data, pickles, below),
        }));
      const bytes = below(2) ? mutateBytes(pick(zips, below), zips, below) : await seeds.zipOf(odd());
      await readCheckpoint(new MemorySource(bytes), 'case.pt');
    };
  },

  npz: async (folder) => {
    const arrays = [seeds.npy([4]), seeds.npy([3, 3]), seeds.npy([2, 2], '<f4'), seeds.npy([0])];
    const sound = await seeds.zipOf([
      { name: 'mu.npy', data: arrays[0] },
      { name: 'sigma.npy', data: arrays[1] },
    ]);
    const path = join(folder, 'case.npz');
    const dict = "{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }";
    return async (below) => {
      const header = () =>
        mutateBytes(Buffer.from(dict), [Buffer.from("(9999999999999,'|O8'")], below).toString('latin1');
      const array = () =>
        below(2) ? mutateBytes(pick(arrays, below), arrays, below) : seeds.npy([4], '<f8', header());
      const odd = () =>
        seeds.zipOf([
          { name: 'mu.npy', data: array() },
          { name: 'sigma.npy', data: arrays[1] },
        ]);
      write(path, below(2) ? mutateBytes(sound, arrays, below) : await odd());
      await readNpz(path);
    };
  },

  idx: async (folder) => {
    const [pictures, labels] = [seeds.idx([5, 6, 7]), seeds.idx([5])];
    return async (below) => {
      const damaged = (bytes: Buffer) => mutateBytes(bytes, [pictures, labels], below);
      const isPacked = below(2) === 0;
      const packed = (bytes: Buffer) =>
        isPacked ? (below(3) ? seeds.gzip(bytes) : damaged(seeds.gzip(bytes))) : bytes;
      const ending = isPacked ? '.gz' : '';
      const path = join(folder, `train-images-idx3-ubyte${ending}`);
      write(path, packed(below(4) ? damaged(pictures) : pictures));
      write(join(folder, `train-labels-idx1-ubyte${ending}`), packed(below(2) ? damaged(labels) : labels));
      await readImages(path);
    };
  },

  json: async (folder) => {
    const { run, options, network, autoencoder, labels, dataset } = jsonFiles();
    const place = (name: string, text: string | Buffer) => {
      write(join(folder, name), text);
      return dirname(join(folder, name));
    };
    const readers: readonly [unknown, (text: Buffer) => Promise<unknown>][] = [
      [run, async (text) => resolve((await readRunJson(place('run/run.json', text)))?.config ?? {})],
      [
        options,
        async (text) => resolve(await readConfigFile(join(place('options.json', text), 'options.json'))),
      ],
      [network, async (text) => precondFromText(text.toString('utf8'), 'weights.json')],
      [autoencoder, (text) => loadAutoencoder(place('vae/config.json', text))],
      [labels, (text) => readLabelFile(place('images/labels.json', text))],
      [
        dataset,
        async (text) =>
          resolveLabels({
            path: 'set',
            names: ['a.png', 'b.png'],
            datasetJson: text.toString('utf8'),
            classes: null,
          }),
      ],
    ];
    return async (below) => {
      const [value, read] = pick(readers, below);
      const text = Buffer.from(JSON.stringify(below(3) ? mutateJson(value, below) : value) ?? '');
      await read(below(3) ? text : mutateBytes(text, [text], below));
    };
  },

  yaml: async (folder) => {
    const { options } = jsonFiles();
    const path = join(folder, 'options.yaml');
    const tricks = [
      '&a [*a, *a]',
      '!!binary x',
      '<<: {a: 1}',
      '? [1]\n: 2',
      '!!js/function x',
      '- - - -',
      'a: &x 1\nb: *y',
      '%YAML 3.0\n---\n',
    ];
    const bombs = `a: &a [x,x,x,x,x,x,x,x,x]\n${[...'bcdefghij'].map((name, i) => `${name}: &${name} [${`*${'abcdefghi'[i]},`.repeat(9)}]`).join('\n')}\n`;
    const others = [...tricks, bombs].map((text) => Buffer.from(text));
    return async (below) => {
      const text = Buffer.from(
        stringify(below(2) ? mutateJson(options, below) : options, { aliasDuplicateObjects: false }) ?? '',
      );
      write(path, below(2) ? mutateBytes(text, others, below) : Buffer.concat([text, pick(others, below)]));
      resolve(await readConfigFile(path));
    };
  },

  images: async () => {
    const files = await seeds.images();
    return async (below) => {
      const file = pick(files, below);
      const chunk = pick(['IHDR', 'IDAT', 'PLTE', 'tRNS'], below);
      const isPng = file[0] === 0x89 && below(2) === 0;
      const bytes = isPng
        ? seeds.withChunk(file, chunk, (data) => mutateBytes(data, files, below))
        : mutateBytes(file, files, below);
      await anyOf([() => decodeImage(bytes, { alpha: below(2) === 0 }), () => readImageHeader(bytes)]);
    };
  },
};

function write(path: string, contents: string | Buffer): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, contents);
}

/** Options from a file, checked as the command line does. */
function resolve(values: object): void {
  resolveTrainOptions({ base: { name: 'case', values: { ...values } }, call: { data: 'set' } });
}

/** As training does: opens a set, and reads some of its images. */
async function readImages(path: string): Promise<void> {
  const set = await openImages(path, { resolution: 8 });
  try {
    const some = Array.from({ length: Math.min(set.length, 3) }, (_, index) => index);
    await set.ready(some);
    set.gather(some, { size: 4, rows: some.map(() => 0), cols: some.map(() => 0) });
  } finally {
    await set.close();
  }
}

/** Gives the file to all readers. It is good when one takes it; an error that is none for people comes first. */
async function anyOf(readers: readonly (() => unknown)[]): Promise<void> {
  const results = await Promise.allSettled(readers.map(async (read) => read()));
  const errors = results.flatMap((result) =>
    result.status === 'rejected' ? [result.reason as unknown] : [],
  );
  const fault = errors.find((error) => !isExpected(error));
  if (fault !== undefined) throw fault;
  if (errors.length === results.length) throw errors[0];
}

/** A safetensors file whose header was changed as JSON; its length field is right. */
function withHeader(file: Buffer, below: Below): Buffer {
  const end = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, end)) as { __metadata__: Record<string, string> };
  const description: unknown = JSON.parse(header.__metadata__.patch_diffusion);
  const changed = below(2)
    ? {
        ...header,
        __metadata__: {
          ...header.__metadata__,
          patch_diffusion: JSON.stringify(mutateJson(description, below)),
        },
      }
    : mutateJson(header, below);
  const text = Buffer.from(JSON.stringify(changed) ?? '');
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, file.subarray(end)]);
}
