/** Official checkpoints that are damaged, hostile or of something else. */
import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { MemorySource } from '../../src/formats/pickle/byte-source.js';
import { ModuleRecord } from '../../src/formats/torch-file/index.js';
import { readCheckpoint } from '../../src/interchange/official-checkpoint.js';
import { namedTensors } from '../../src/interchange/official-module.js';
import { bytes, moduleState, nestedTensor, persistent, pickle } from '../helpers/pickler.js';

describe('modules', () => {
  const read = (data: Buffer) => readCheckpoint(new MemorySource(data), 'x.pkl');

  it('survives a module that contains itself', async () => {
    // The state dictionary is memoised and set as its own child.
    const cyclic = bytes(
      ...[
        0x80,
        4,
        '}',
        'q',
        9,
        '(',
        'X',
        Buffer.of(3, 0, 0, 0),
        'ema',
        'ctorch_utils.persistence\n_reconstruct_persistent_obj\n}(',
      ],
      ...[
        pickle('type').subarray(2, -1),
        pickle('class').subarray(2, -1),
        pickle('class_name').subarray(2, -1),
      ],
      ...[pickle('Patch_EDMPrecond').subarray(2, -1), pickle('state').subarray(2, -1), '}q', 1, '('],
      ...[pickle('_modules').subarray(2, -1), 'h', 1, 'u', 'u', 0x85, 'R', 'u.'],
    );
    await expect(read(cyclic)).rejects.toThrow(UserError);
  });

  it('gives up on modules that are their own children many times over', () => {
    const twelveTo = (depth: number): ModuleRecord => {
      const child = depth === 0 ? null : twelveTo(depth - 1);
      const children = new Map(Array.from({ length: 12 }, (_, i) => [String(i), child]));
      return new ModuleRecord('ModuleDict', new Map([['_modules', children]]));
    };
    expect(() => namedTensors(twelveTo(14), 'x.pkl')).toThrow(/x\.pkl is not a usable.*more modules than/);
    const nothing = new Map(Array.from({ length: 60_000 }, (_, i) => [String(i), null]));
    const wide = new ModuleRecord('Linear', new Map([['_parameters', nothing]]));
    expect(() => namedTensors(wide, 'x.pkl')).toThrow(/more modules than/);
  });

  it('says what it cannot use', async () => {
    const odd = persistent('StyleGAN3', moduleState([], []));
    await expect(read(pickle(new Map([['ema', odd]])))).rejects.toThrow(
      /StyleGAN3 without recorded arguments/,
    );
    await expect(read(pickle(new Map([['G', 1]])))).rejects.toThrow(
      /neither a network snapshot nor a training state/,
    );
    await expect(read(Buffer.from('not a checkpoint'))).rejects.toThrow(
      /neither a pickle nor a PyTorch file/,
    );
    await expect(read(Buffer.alloc(0))).rejects.toThrow(UserError);
  });

  it('refuses arguments that ask for more than the file has', async () => {
    const kwargs = {
      img_resolution: 64,
      img_channels: 5,
      out_channels: 3,
      label_dim: 0,
      model_channels: 8000,
      channel_mult: [8, 8],
    };
    const model = persistent(
      'SongUNet',
      moduleState([['weight', nestedTensor(new Float32Array(4), [4])]], [], { _init_kwargs: new Map() }),
    );
    const snapshot = (args: object) =>
      pickle(
        new Map([
          [
            'ema',
            persistent(
              'Patch_EDMPrecond',
              moduleState([], [['model', model]], { _init_kwargs: new Map(Object.entries(args)) }),
            ),
          ],
        ]),
      );
    await expect(read(snapshot(kwargs))).rejects.toThrow(/map_layer0.weight is missing/);
    await expect(read(snapshot({ ...kwargs, model_channels: 1e9 }))).rejects.toThrow(
      /argument network.modelChannels cannot be used/,
    );
    await expect(read(snapshot({ ...kwargs, evil: 1 }))).rejects.toThrow(/evil|Unrecognized/);
  });
});
