/** Errors of the set-up; each message ends with the command that fixes it. */

/** Stable codes of {@link SetupError}. */
export type SetupErrorCode =
  | 'LIBTORCH_NOT_FOUND'
  | 'LIBTORCH_TOO_OLD'
  | 'ADDON_NOT_BUILT'
  | 'COMPILER_NOT_FOUND'
  | 'COMPILE_FAILED'
  | 'ADDON_UNUSABLE'
  | 'FILE_SYSTEM'
  | 'PLATFORM_UNSUPPORTED';

/** A part of the set-up is missing or failed; `message` says what was tried and what to run. */
export class SetupError extends Error {
  override readonly name = 'SetupError';
  /** What a command line should exit with. */
  readonly exitCode = 1;

  constructor(
    readonly code: SetupErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

const IN_THE_WAY = 'A file is in the way of a folder: move it elsewhere';
const NO_ACCESS = 'Give yourself write access there, or set XDG_CACHE_HOME to a folder that you can write to';
const FILE_REMEDIES: Record<string, string> = {
  ENOSPC: 'The disk is full: free about 2 GB on it',
  EDQUOT: 'Your quota is used up: free about 2 GB',
  ENOTDIR: IN_THE_WAY,
  EEXIST: IN_THE_WAY,
  EACCES: NO_ACCESS,
  EPERM: NO_ACCESS,
  EROFS: NO_ACCESS,
};

/** An error of the file system with its remedy and the command to run then; any other error as it is. */
export function explainFileError(error: unknown, command: string): unknown {
  if (!(error instanceof Error && 'syscall' in error)) return error;
  const { code = '', message } = error as NodeJS.ErrnoException;
  const remedy = FILE_REMEDIES[code] ?? 'Fix that';
  return new SetupError('FILE_SYSTEM', `${message}. ${remedy}. Then run: ${command}`, { cause: error });
}
