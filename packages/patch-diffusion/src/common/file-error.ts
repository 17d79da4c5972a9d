/** File-system errors for people: one line with the remedy. */
import { UserError } from './errors.js';

/** What to do where the system opens no more files. */
export const FEW_FILES = 'the limit of open files is too low; raise it (ulimit -n 1024) and run this again';

/** Turns a file-system error into one line for people. Others pass through. */
export function fileError(error: unknown, doing: string): unknown {
  if (error instanceof UserError || !(error instanceof Error) || !('code' in error)) return error;
  const reasons: Record<string, string> = {
    ENOSPC: 'the disk is full; free some space or choose another place',
    EDQUOT: 'the disk quota is used up; free some space or choose another place',
    EROFS: 'the file system is read-only; choose another place',
    EACCES: 'permission denied; choose a place that you may write to',
    EPERM: 'permission denied; choose a place that you may write to',
    ENOTDIR: 'part of the path is a file; choose another place',
    EEXIST: 'a file is in the way; choose another place',
    EMFILE: FEW_FILES,
    ENFILE: FEW_FILES,
    ENOENT: 'it does not exist; check the path',
  };
  const reason = reasons[String(error.code)];
  if (reason === undefined) return error;
  return new UserError(`FILE_${String(error.code)}`, `cannot ${doing}: ${reason}`, { cause: error });
}

/** Runs `work`; a file-system error of it says what could not be done. */
export async function guarded<T>(doing: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw fileError(error, doing);
  }
}
