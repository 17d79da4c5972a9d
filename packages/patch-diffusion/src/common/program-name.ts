/** How to call this program, for commands that people copy from its messages. */

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/**
 * `patch-diffusion` where a shell finds it; else `npx patch-diffusion`, which works in a clone and in a project that
 * has it installed. The folders that npm and npx put in front of PATH for a while do not count.
 */
export function programName(path = process.env.PATH ?? ''): string {
  const folders = path.split(delimiter).filter((folder) => !folder.includes('node_modules'));
  const isFound = folders.some((folder) => folder !== '' && existsSync(join(folder, 'patch-diffusion')));
  return isFound ? 'patch-diffusion' : 'npx patch-diffusion';
}
