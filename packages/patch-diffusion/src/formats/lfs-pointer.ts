/** Files that git-lfs left as pointers: a few lines of text in place of the contents. */
import { closeSync, openSync, readSync } from 'node:fs';
import { UserError } from '../common/errors.js';

const START = 'version https://git-lfs.github.com/spec/';

/** The error for a file that is a pointer, or null. @param head its first bytes, at least 40 */
export function lfsPointerError(head: Uint8Array, file: string): UserError | null {
  if (Buffer.from(head).toString('latin1', 0, START.length) !== START) return null;
  return new UserError(
    'LFS_POINTER',
    `${file} is a git-lfs pointer, not the file itself; run \`git lfs pull\` in its repository`,
  );
}

/** {@link lfsPointerError} of a file that could not be read as what it should be. */
export function lfsPointerErrorOf(file: string): UserError | null {
  try {
    const fd = openSync(file, 'r');
    try {
      const head = new Uint8Array(START.length);
      readSync(fd, head, 0, head.length, 0);
      return lfsPointerError(head, file);
    } finally {
      closeSync(fd);
    }
  } catch {
    return null; // why it cannot be read is told by its reader
  }
}
