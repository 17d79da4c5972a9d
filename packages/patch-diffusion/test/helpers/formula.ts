/** Deterministic weights for networks too large to store (golden README, section 11). */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

export interface Formula {
  readonly salt: number;
  readonly gain: number;
}

/** The values of the j-th tensor in code-point order of the names. */
export function formulaTensor(name: string, j: number, shape: number[], { salt, gain }: Formula): Tensor {
  const numel = shape.reduce((a, b) => a * b, 1);
  const values = new Float32Array(numel);
  const [scale, offset] = scaleAndOffset(name, shape, gain);
  const start = (Math.imul(j, 0x85ebca77) + salt) | 0;
  for (let k = 0; k < numel; k++) {
    let x = (Math.imul(k, 0x9e3779b1) + start) | 0;
    x = Math.imul(x ^ (x >>> 15), 0x2c1b3c6d);
    x = Math.imul(x ^ (x >>> 12), 0x297a2d39);
    x = (x ^ (x >>> 15)) >>> 0;
    values[k] = offset + scale * ((2 * x) / 2 ** 32 - 1);
  }
  return torch.tensor(values, { shape });
}

function scaleAndOffset(name: string, shape: number[], gain: number): [scale: number, offset: number] {
  if (shape.length >= 2) return [Math.sqrt(gain / shape.slice(1).reduce((a, b) => a * b, 1)), 0];
  if (name.endsWith('running_var')) return [0.4, 1];
  if (name.endsWith('running_mean')) return [0.1, 0];
  return name.endsWith('weight') ? [0.2, 1] : [0.1, 0];
}
