/** Options of an export as ONNX. Without native imports. */

/**
 * - `fp32`: everything in float32
 * - `fp16`: the denoiser's layers compute in float16; the decoder's weights are stored in it
 * - `int8`: weights are stored as 8-bit integers, with one scale per output channel; everything computes in float32
 */
export const ONNX_PRECISIONS = ['fp32', 'fp16', 'int8'] as const;
export type OnnxPrecision = (typeof ONNX_PRECISIONS)[number];

export interface OnnxOptions {
  /** Default `fp32`. */
  readonly precision?: OnnxPrecision;
  /** Text of the licence, for the file's metadata. */
  readonly license?: string | null;
  /** Folder of the autoencoder, where it is not the recorded one. */
  readonly autoencoder?: string | null;
}
