/**
 * Loads the weights of FID's Inception from a file of the user's: a state dict of pytorch-fid (`.pth` or safetensors), or
 * the pickle that NVIDIA's programs download. Neither is run; only tensors are read.
 */
import type { Device, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { StateDictError } from '@patch-diffusion/torch';
import { UserError } from '../../common/errors.js';
import { sha256Of } from '../../common/sha256.js';
import { type FetchOptions, fetchToCache } from '../../formats/hub/download.js';
import { isRemote, parseLocator } from '../../formats/hub/locator.js';
import { FileSource } from '../../formats/pickle/byte-source.js';
import { openTensorFile, tensorsUnder } from '../../formats/tensor-file.js';
import { ModuleRecord, readTorchFile, stateDictOf } from '../../formats/torch-file/index.js';
import { isPickleOrZip } from '../../interchange/load-snapshot.js';
import { namedTensors } from '../../interchange/official-module.js';
import { Inception } from '../../networks/inception.js';
import type { Detector } from './detector.js';

const FEATURES = 2048;

/**
 * Opens the Inception whose features FID is defined on.
 * @param from a file, an address, or `hf:owner/repository/file`
 * @throws UserError when it cannot be fetched, is damaged, or holds the weights of another network
 */
export async function openInception(
  from: string,
  { device, ...fetching }: FetchOptions & { readonly device: Device },
): Promise<Detector> {
  const file = isRemote(from) ? (await fetchToCache(parseLocator(from), fetching)).file : from;
  const network = new Inception();
  try {
    await loadInto(network, file);
    network.to({ device });
  } catch (error) {
    network.dispose();
    throw error;
  }
  return {
    record: { kind: 'inception', dim: FEATURES, sha256: await sha256Of(file) },
    features: (images) =>
      torch.scope(() => {
        const channels = images.shape[1];
        // Colours of transparent images, as on a black background.
        const colours = channels === 4 ? overBlack(images) : images;
        return network.features(colours.to({ device })).to({ device: 'cpu' });
      }),
    dispose: () => network.dispose(),
  };
}

/** RGB and opacity, uint8 [N, 4, H, W] → uint8 [N, 3, H, W]. */
function overBlack(images: Tensor): Tensor {
  const [colours, opacity] = images.to({ dtype: 'float32' }).split([3, 1], 1);
  return colours.mul(opacity).div(255).round().to({ dtype: 'uint8' });
}

async function loadInto(network: Inception, file: string): Promise<void> {
  try {
    if (await isPickleOrZip(file)) await loadPickle(network, file);
    else await loadTensors(network, file);
  } catch (cause) {
    if (!(cause instanceof StateDictError)) throw cause;
    throw otherNetwork(file, cause.message.replace(/;[^;]*$/, ''));
  }
}

function otherNetwork(file: string, reason: string): UserError {
  return new UserError(
    'NOT_INCEPTION',
    `${file} does not hold the Inception of FID (${reason}); give pt_inception-2015-12-05-….pth or inception-2015-12-05.pkl`,
  );
}

async function loadTensors(network: Inception, file: string): Promise<void> {
  const reader = await openTensorFile(file);
  try {
    torch.scope(() => network.loadWeights(tensorsUnder(reader, '')));
  } finally {
    await reader.close();
  }
}

async function loadPickle(network: Inception, file: string): Promise<void> {
  const source = new FileSource(file);
  try {
    const top = await readTorchFile(source, file);
    const dict =
      top instanceof ModuleRecord
        ? nvidiaNames(namedTensors(top, file).map(({ name, tensor }) => [name, tensor]))
        : stateDictOf(top);
    if (dict === null) throw otherNetwork(file, 'it has no weights');
    torch.noGrad(() =>
      torch.scope(() => {
        const tensors = new Map(Array.from(dict, ([name, tensor]) => [name, tensor.toTensor()]));
        // NVIDIA's batch norms have no scale.
        for (const [name, { shape }] of network.stateDict())
          if (top instanceof ModuleRecord && name.endsWith('.bn.weight'))
            tensors.set(name, torch.ones(shape));
        network.loadWeights(tensors);
      }),
    );
  } finally {
    source.close();
  }
}

/** Names of the blocks in NVIDIA's pickle, and the blocks' kinds. */
const NVIDIA_BLOCKS: Readonly<Record<string, readonly [name: string, kind: string]>> = {
  mixed: ['Mixed_5b', 'A'],
  mixed_1: ['Mixed_5c', 'A'],
  mixed_2: ['Mixed_5d', 'A'],
  mixed_3: ['Mixed_6a', 'B'],
  mixed_4: ['Mixed_6b', 'C'],
  mixed_5: ['Mixed_6c', 'C'],
  mixed_6: ['Mixed_6d', 'C'],
  mixed_7: ['Mixed_6e', 'C'],
  mixed_8: ['Mixed_7a', 'D'],
  mixed_9: ['Mixed_7b', 'E'],
  mixed_10: ['Mixed_7c', 'E'],
};

const NVIDIA_STEM: Readonly<Record<string, string>> = {
  conv: 'Conv2d_1a_3x3',
  conv_1: 'Conv2d_2a_3x3',
  conv_2: 'Conv2d_2b_3x3',
  conv_3: 'Conv2d_3b_1x1',
  conv_4: 'Conv2d_4a_3x3',
};

/** Units of a tower, `conv`, `conv_1`, …, and their names in pytorch-fid. */
const tower = (prefix: string, names: readonly string[]): [string, string][] =>
  names.map((name, k) => [`${prefix}.conv${k === 0 ? '' : `_${k}`}`, name]);

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, k) => `${name}_${k + 1}`);

/** The units of each kind of block, in NVIDIA's pickle and in pytorch-fid. */
const NVIDIA_UNITS: Readonly<Record<string, ReadonlyMap<string, string>>> = {
  A: new Map([
    ['conv', 'branch1x1'],
    ...tower('tower', numbered('branch5x5', 2)),
    ...tower('tower_1', numbered('branch3x3dbl', 3)),
    ['tower_2.conv', 'branch_pool'],
  ]),
  B: new Map([['conv', 'branch3x3'], ...tower('tower', numbered('branch3x3dbl', 3))]),
  C: new Map([
    ['conv', 'branch1x1'],
    ...tower('tower', numbered('branch7x7', 3)),
    ...tower('tower_1', numbered('branch7x7dbl', 5)),
    ['tower_2.conv', 'branch_pool'],
  ]),
  D: new Map([...tower('tower', numbered('branch3x3', 2)), ...tower('tower_1', numbered('branch7x7x3', 4))]),
  E: new Map([
    ['conv', 'branch1x1'],
    ['tower_conv', 'branch3x3_1'],
    ['tower_mixed_conv', 'branch3x3_2a'],
    ['tower_mixed_conv_1', 'branch3x3_2b'],
    ['tower_1_conv', 'branch3x3dbl_1'],
    ['tower_1_conv_1', 'branch3x3dbl_2'],
    ['tower_1_mixed_conv', 'branch3x3dbl_3a'],
    ['tower_1_mixed_conv_1', 'branch3x3dbl_3b'],
    ['tower_2_conv', 'branch_pool'],
  ]),
};

const NVIDIA_TENSORS: Readonly<Record<string, string>> = {
  weight: 'conv.weight',
  beta: 'bn.bias',
  mean: 'bn.running_mean',
  var: 'bn.running_var',
};

/** `layers.mixed_9.tower_mixed_conv.beta` → `Mixed_7b.branch3x3_2a.bn.bias`; others than the units are left out. */
export function nvidiaNames<T>(tensors: Iterable<readonly [string, T]>): Map<string, T> {
  const found = new Map<string, T>();
  for (const [name, value] of tensors) {
    const [, path, last] = /^layers\.(.+)\.(weight|beta|mean|var)$/.exec(name) ?? [];
    if (path === undefined) continue;
    const [block, ...rest] = path.split('.');
    if (rest.length === 0) {
      const stem = NVIDIA_STEM[block];
      if (stem) found.set(`${stem}.${NVIDIA_TENSORS[last]}`, value);
      continue;
    }
    const [blockName, kind] = NVIDIA_BLOCKS[block] ?? [];
    const unit = kind && NVIDIA_UNITS[kind].get(rest.join('.'));
    if (unit) found.set(`${blockName}.${unit}.${NVIDIA_TENSORS[last]}`, value);
  }
  return found;
}
