/**
 * 100,000 damaged checkpoints: each must give a value or an error for people, quickly and within its memory. Mutations:
 * truncation, bit flips, opcodes spliced in, length fields, parts of one file in another. The seed is fixed.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { MemorySource } from '../../src/formats/pickle/byte-source.js';
import { pickleStateDict } from '../../src/formats/torch-file/pickle-writer.js';
import { zipArchive } from '../../src/formats/zip-writer.js';
import { readCheckpoint } from '../../src/interchange/official-checkpoint.js';
import { goldenDir } from '../helpers/golden.js';
import {
  Call,
  legacyStorage,
  legacyStream,
  moduleState,
  Name,
  nestedTensor,
  PersistentId,
  persistent,
  pickle,
  Tuple,
  tensorOf,
} from '../helpers/pickler.js';

/** xorshift32 */
function random(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const OPCODES = Buffer.from('()]}.012GIJKLMNFSTUVXcdegh jlopqrstuabBCQRPi', 'latin1');
const PROTOCOL_4 = Buffer.of(0x80, ...Array.from({ length: 0x18 }, (_, i) => 0x81 + i));
const LENGTHS = [0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff];

function mutate(seeds: readonly Buffer[], index: number, next: (below: number) => number): Buffer {
  let data = Buffer.from(seeds[index]!);
  for (let rounds = 1 + next(4); rounds > 0 && data.length > 0; rounds--) {
    const at = next(data.length);
    switch (next(8)) {
      case 0:
        data = data.subarray(0, at);
        break;
      case 1:
      case 2:
        data[at]! ^= 1 << next(8);
        break;
      case 3:
        data[at] = next(2) ? OPCODES[next(OPCODES.length)]! : PROTOCOL_4[next(PROTOCOL_4.length)]!;
        break;
      case 4: {
        const opcode = next(2) ? OPCODES[next(OPCODES.length)]! : PROTOCOL_4[next(PROTOCOL_4.length)]!;
        data = Buffer.concat([data.subarray(0, at), Buffer.alloc(1 + next(3), opcode), data.subarray(at)]);
        break;
      }
      case 5:
        if (at + 8 <= data.length) {
          const value = LENGTHS[next(LENGTHS.length)]!;
          if (next(2)) data.writeUInt32LE(value, at);
          else data.writeBigUInt64LE(BigInt(value) << BigInt(next(33)), at);
        }
        break;
      case 6: {
        const other = seeds[next(seeds.length)]!;
        const from = next(other.length);
        data = Buffer.concat([
          data.subarray(0, at),
          other.subarray(from, from + next(200)),
          data.subarray(at),
        ]);
        break;
      }
      default: {
        const end = Math.min(data.length, at + next(64));
        data = Buffer.concat([data.subarray(0, at), data.subarray(end)]);
      }
    }
  }
  return data;
}

async function archive(name: string, pkl: Uint8Array, storages: readonly Uint8Array[]): Promise<Buffer> {
  const members = [
    { name: `${name}/data.pkl`, data: pkl },
    ...storages.map((data, key) => ({ name: `${name}/data/${key}`, data })),
    { name: `${name}/version`, data: Buffer.from('3\n') },
  ];
  const parts: Uint8Array[] = [];
  for await (const part of zipArchive(members)) parts.push(part);
  return Buffer.concat(parts);
}

/** Small files of every kind, with every construct that the official ones use. */
async function smallSeeds(): Promise<Buffer[]> {
  const weights = Float32Array.of(1, 2, 3, 4);
  const dtype = new Call(
    'numpy.dtype',
    ['f8', false, true],
    new Tuple([3, '<', null, null, null, -1, -1, 0]),
  );
  const scalar = new Call('numpy.core.multiarray.scalar', [dtype, Buffer.alloc(8)]);
  const list = new Call('torch.nn.modules.container.ModuleDict', [], moduleState([], []), 'NEWOBJ');
  const args = new Map<unknown, unknown>(
    Object.entries({
      img_resolution: 16,
      img_channels: 5,
      out_channels: 3,
      label_dim: 0,
      sigma_max: Infinity,
      model_channels: 4,
      channel_mult: [1],
    }),
  );
  const network = (tensor: unknown) => {
    const layer = persistent(
      'Linear',
      moduleState(
        [
          ['weight', tensor],
          ['bias', null],
        ],
        [],
        { skip_scale: scalar },
      ),
    );
    const model = persistent(
      'SongUNet',
      moduleState(
        [],
        [
          ['map_layer0', layer],
          ['enc', list],
        ],
        { _init_kwargs: new Map() },
      ),
    );
    return persistent('Patch_EDMPrecond', moduleState([], [['model', model]], { _init_kwargs: args }));
  };
  const loss = persistent(
    'Patch_EDMLoss',
    new Map<unknown, unknown>(Object.entries({ P_mean: -1.2, P_std: 1.2, sigma_data: 0.5 })),
  );
  const snapshot = (protocol: number) =>
    pickle(
      new Map<string, unknown>([
        ['ema', network(nestedTensor(weights, [4, 1]))],
        ['loss_fn', loss],
        ['dataset_kwargs', new Map([['path', 'x.zip']])],
      ]),
      protocol,
    );
  const storageId = (key: string, ...rest: unknown[]) =>
    new PersistentId(new Tuple(['storage', new Name('torch.FloatStorage'), key, 'cuda:0', 4, ...rest]));
  const state = (...rest: unknown[]) => {
    const moments = new Map<string, unknown>(
      ['step', 'exp_avg', 'exp_avg_sq'].map((key, i) => [
        key,
        tensorOf(storageId(String(i + 1), ...rest), i ? [4, 1] : []),
      ]),
    );
    const text = new Call('_codecs.encode', ['\u0080a', 'latin1']);
    return new Map<string, unknown>([
      ['net', network(tensorOf(storageId('0', ...rest), [4, 1]))],
      [
        'optimizer_state',
        new Map<string, unknown>([
          ['state', new Map([[0, moments]])],
          [
            'param_groups',
            [
              new Map<string, unknown>([
                ['lr', 1e-3],
                ['x', text],
              ]),
            ],
          ],
        ]),
      ],
    ]);
  };
  const four = [0, 1, 2, 3].map(() => Buffer.from(weights.buffer));
  const dict = pickleStateDict([{ name: 'a', key: 0, storage: 'FloatStorage', shape: [2, 2] }]);
  return [
    legacyStorage(weights),
    snapshot(4),
    snapshot(2),
    legacyStream(
      state(null),
      ['0', '1', '2', '3'].map((key) => [key, weights] as const),
    ),
    await archive('training-state-000001', pickle(state(), 2), four),
    await archive('w', dict, four.slice(0, 1)),
  ];
}

/** Counts what becomes of the inputs; anything but a value or an error for people fails. */
async function run(
  seeds: readonly Buffer[],
  count: number,
  seed: number,
): Promise<{ values: number; errors: number; slowestMs: number }> {
  const next = random(seed);
  let [values, errors, slowestMs] = [0, 0, 0];
  for (let i = 0; i < count; i++) {
    const data = mutate(seeds, i % seeds.length, next);
    const start = performance.now();
    try {
      await readCheckpoint(new MemorySource(data), 'fuzz');
      values++;
    } catch (error) {
      if (!(error instanceof UserError)) {
        throw new Error(`input ${i} of seed ${seed} (CRC ${crc32(data)}): ${(error as Error).stack}`, {
          cause: error,
        });
      }
      errors++;
    }
    slowestMs = Math.max(slowestMs, performance.now() - start);
  }
  return { values, errors, slowestMs };
}

/** Bytes that 100 collections would not take: a generous bound for inputs of a few kilobytes. */
const MAX_GROWTH_BYTES = 300 * 2 ** 20;

describe('fuzzing', () => {
  it('the unharmed inputs reach all parts of the reader', async () => {
    const messages: string[] = [];
    for (const seed of await smallSeeds()) {
      await readCheckpoint(new MemorySource(seed), 'seed').then(
        (c) => messages.push(c.kind),
        (e: Error) => messages.push(e.message.replace(/.*: /, '')),
      );
    }
    // The tiny networks are read whole; that their tensors are too small is found last.
    expect(messages).toEqual([
      expect.stringContaining('neither a network snapshot nor'),
      ...Array.from({ length: 4 }, () =>
        expect.stringContaining('model.map_layer0.weight has the shape [4,1]'),
      ),
      'state-dict',
    ]);
  });

  it('98,000 damaged small files', async () => {
    const before = process.memoryUsage().rss;
    const { values, errors, slowestMs } = await run(await smallSeeds(), 98_000, 0x5eed);
    expect(values + errors).toBe(98_000);
    expect(errors).toBeGreaterThan(60_000);
    expect(slowestMs).toBeLessThan(2000);
    expect(process.memoryUsage().rss - before).toBeLessThan(MAX_GROWTH_BYTES);
  }, 300_000);

  const golden = join(goldenDir, 'checkpoints', 'patch_ddpmpp');
  it.skipIf(!existsSync(golden))(
    `2,000 damaged official files${existsSync(golden) ? '' : ` (skipped: there is no ${golden})`}`,
    async () => {
      const files = [
        'network-snapshot-000012.pkl',
        'training-state-000012.pt',
        'legacy/training-state-000012.pt',
      ];
      const before = process.memoryUsage().rss;
      const { values, errors, slowestMs } = await run(
        files.map((file) => readFileSync(join(golden, file))),
        2_000,
        0xbeef,
      );
      expect(values + errors).toBe(2_000);
      expect(slowestMs).toBeLessThan(3000);
      expect(process.memoryUsage().rss - before).toBeLessThan(MAX_GROWTH_BYTES);
    },
    300_000,
  );
});
