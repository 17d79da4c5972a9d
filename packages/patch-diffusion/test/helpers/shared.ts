/** Where the shared images lie; tests that need them are skipped when they are absent. */
import { existsSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const repositoryRoot = resolve(dirname(fileURLToPath(import.meta.url)), '../../../..');

export const sharedDir = process.env.SHARED_DIR ?? resolve(repositoryRoot, '../shared');
export const dataDir = join(sharedDir, 'data');

/** True when `path` exists; otherwise says once what is skipped, and why. */
export function available(path: string): boolean {
  const found = existsSync(path);
  if (!found) console.warn(`skipped: no ${path} (set SHARED_DIR)`);
  return found;
}
