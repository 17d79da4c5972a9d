/** Weights as 8-bit integers with one scale per output channel: symmetric, nearest, −127 … 127. */
import type { Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import type { OnnxTensor } from '../../formats/onnx/graph.js';

/**
 * weight ≈ values · scales along `axis`.
 * @param weight float32, at least one axis besides `axis`
 */
export function quantise(weight: Tensor, axis: number): { values: OnnxTensor; scales: OnnxTensor } {
  return torch.noGrad(() =>
    torch.scope(() => {
      const others = weight.shape.map((_, i) => i).filter((i) => i !== axis);
      // A channel of zeros only keeps a scale of 1.
      const largest = weight.abs().amax(others, true);
      const scales = torch.where(largest.eq(0), 1, largest.div(127));
      const values = weight.div(scales).round();
      return {
        values: {
          type: 'int8',
          shape: weight.shape,
          bytes: new Uint8Array(Int8Array.from(values.toFloat32Array()).buffer),
        },
        scales: { type: 'float32', shape: [weight.shape[axis]], bytes: bytesOf(scales.toFloat32Array()) },
      };
    }),
  );
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  new Uint8Array(buffer, byteOffset, byteLength);
