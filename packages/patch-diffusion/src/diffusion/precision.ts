/**
 * In which precision the network's body computes. The weights, the optimiser, the average, the noise and class
 * embeddings, the preconditioning and the loss are float32 in all of them. No tensors and no native imports here.
 */

/**
 * - `fp32`: float32
 * - `tf32`: float32 whose products NVIDIA GPUs round to 10 bits of mantissa; elsewhere the same as `fp32`
 * - `fp16`: float16 activations; gradients can underflow, so the loss is scaled
 * - `bf16`: bfloat16 activations, with the range of float32
 */
export const PRECISIONS = ['fp32', 'tf32', 'fp16', 'bf16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** What a user can ask for: `auto` is bfloat16 where the hardware computes it faster, else float32. */
export const PRECISION_CHOICES = ['auto', ...PRECISIONS] as const;
export type PrecisionChoice = (typeof PRECISION_CHOICES)[number];

/** Type of the activations. */
export function activationDtype(precision: Precision): 'float32' | 'float16' | 'bfloat16' {
  if (precision === 'fp16') return 'float16';
  return precision === 'bf16' ? 'bfloat16' : 'float32';
}
