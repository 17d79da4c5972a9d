/** Errors of the set-up: for people, each ending with the command that mends it. */

/** Stable codes of {@link SetupError}. */
export type SetupErrorCode =
  | 'LIBTORCH_NOT_FOUND'
  | 'LIBTORCH_TOO_OLD'
  | 'ADDON_NOT_BUILT'
  | 'COMPILER_NOT_FOUND'
  | 'COMPILE_FAILED'
  | 'ADDON_UNUSABLE'
  | 'PLATFORM_UNSUPPORTED';

/** A part of the set-up is missing or failed; `message` says what was tried and what to run. */
export class SetupError extends Error {
  override readonly name = 'SetupError';
  /** What a command line should exit with. */
  readonly exitCode = 1;

  constructor(
    readonly code: SetupErrorCode,
    message: string,
  ) {
    super(message);
  }
}
