/** The one error of the safetensors reader and writer. No Node imports: browsers use this file too. */

/**
 * What kind of fault it is: the file ends too early; its header breaks the format; no tensor of that name;
 * an element type without a counterpart in libtorch; a name that cannot be written; its contents do not fit its
 * checksum; the system cannot read it.
 */
export type SafetensorsErrorCode =
  | 'truncated'
  | 'bad-header'
  | 'no-such-tensor'
  | 'unsupported-dtype'
  | 'bad-name'
  | 'damaged'
  | 'unreadable';

/** A safetensors file cannot be read or written; the message names the file and what is wrong with it. */
export class SafetensorsError extends Error {
  override readonly name = 'SafetensorsError';
  readonly code: SafetensorsErrorCode;
  readonly file: string;

  constructor(file: string, code: SafetensorsErrorCode, what: string, options?: ErrorOptions) {
    super(`${file}: ${what}`, options);
    this.code = code;
    this.file = file;
  }
}
