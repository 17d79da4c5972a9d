/**
 * The error that every fault of this package's tensors and operators becomes.
 *
 * Messages are for people: the operator, what is wrong, and the arguments' shapes; `code` is for programs.
 */

/** What a tensor argument looked like when its operator failed. */
export interface ArgumentShape {
  /** Argument name in the operator's schema, such as `weight` or `tensors[0]`. */
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/**
 * Stable codes of {@link TorchError}.
 *
 * - `ERR_TORCH`: libtorch refused (shapes, types, …)
 * - `ERR_TORCH_ARGUMENT`: an argument is missing or of the wrong kind
 * - `ERR_TORCH_DISPOSED`: the tensor was freed already
 * - `ERR_TORCH_MEMORY`: out of memory (host or device)
 * - `ERR_TORCH_UNSUPPORTED`: this libtorch lacks the operator
 * - `ERR_TORCH_SCOPE`: a scope was used with asynchronous code
 * - `ERR_TORCH_LOAD`: the native addon could not be loaded
 * - `ERR_TORCH_HANDLES`: the handle table is full
 */
export type TorchErrorCode =
  | 'ERR_TORCH'
  | 'ERR_TORCH_ARGUMENT'
  | 'ERR_TORCH_DISPOSED'
  | 'ERR_TORCH_MEMORY'
  | 'ERR_TORCH_UNSUPPORTED'
  | 'ERR_TORCH_SCOPE'
  | 'ERR_TORCH_LOAD'
  | 'ERR_TORCH_HANDLES';

/** A fault reported by this package or by libtorch. */
export class TorchError extends Error {
  override readonly name = 'TorchError';
  readonly code: TorchErrorCode;
  /** Name of the operator that failed, as in its schema (`conv2d`), where there is one. */
  readonly op: string | undefined;
  /** The operator's tensor arguments, where there is one. */
  readonly shapes: readonly ArgumentShape[] | undefined;

  constructor(
    code: TorchErrorCode,
    message: string,
    op?: string,
    shapes?: readonly ArgumentShape[],
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.code = code;
    this.op = op;
    this.shapes = shapes;
  }
}
