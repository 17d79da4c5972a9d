/** Building a network from its description and the weights of a file, whatever the format. */
import type { Device, SafetensorsFile, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { placement } from '../diffusion/device.js';
import { checkSpecAgainstTensors } from '../diffusion/precond-schema.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { createDenoiser, type Denoiser } from '../diffusion/preconditioning.js';
import { asUserError } from '../formats/file-description.js';
import { unwrappedName } from '../formats/torch-file/index.js';
import { type NamedTensor, shapesOf } from './official-module.js';

/** Weights in an open file. A tensor is read when it is asked for. */
export interface Weights {
  /** Shape of each tensor by its official name. */
  readonly shapes: ReadonlyMap<string, readonly number[]>;
  /** Reads a tensor into the current scope. */
  read(name: string): Tensor;
}

/** The weights of a safetensors file, which must stay open. */
export function weightsOf(reader: SafetensorsFile): Weights {
  const names = new Map(reader.names.map((name) => [unwrappedName(name), name]));
  return {
    shapes: asUserError(
      () => new Map(Array.from(names, ([name, stored]) => [name, reader.info(stored).shape])),
    ),
    read: (name) => asUserError(() => reader.tensor(names.get(name)!)),
  };
}

/** The weights of a pickle or PyTorch file, which must stay open. */
export function weightsOfTensors(tensors: readonly NamedTensor[]): Weights {
  const byName = new Map(tensors.map(({ name, tensor }) => [name, tensor]));
  return {
    shapes: shapesOf(tensors),
    read: (name) => byName.get(name)!.toTensor(),
  };
}

/**
 * Builds the denoiser and copies its weights, one tensor at a time: in evaluation mode, without gradients. The caller
 * disposes it.
 * @param file name for messages
 * @throws UserError when names or shapes do not fit; nothing large is made before that is known
 */
export function buildDenoiser(
  spec: PrecondSpec,
  weights: Weights,
  file: string,
  device: Device = 'cpu',
): Denoiser {
  checkSpecAgainstTensors(spec, weights.shapes, file);
  const denoiser = createDenoiser(spec);
  try {
    const own = denoiser.stateDict();
    checkNames(own, weights.shapes, file);
    torch.noGrad(() => {
      for (const [name, target] of own) torch.scope(() => void target.copy_(weights.read(name)));
    });
    return denoiser.requiresGrad(false).eval().to(placement(device));
  } catch (error) {
    denoiser.dispose();
    throw error;
  }
}

/** Every tensor of the network must be there, and no other. */
function checkNames(own: ReadonlyMap<string, Tensor>, given: Weights['shapes'], file: string): void {
  const missing = [...own.keys()].filter((name) => !given.has(name));
  const unexpected = [...given.keys()].filter((name) => !own.has(name));
  const other = [...own]
    .filter(([name, { shape }]) => given.has(name) && String(given.get(name)) !== String(shape))
    .map(([name]) => name);
  const wrong = [...missing, ...unexpected, ...other];
  if (!wrong.length) return;
  throw new UserError(
    'SNAPSHOT_MISMATCH',
    `${file}: its tensors do not fit its network (${missing.length} missing, ${unexpected.length} unexpected, ${other.length} of another shape: ${wrong.slice(0, 3).join(', ')}); the file is damaged or made by another program`,
  );
}
