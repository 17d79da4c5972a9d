import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';

/**
 * Makes a folder and those above it that are missing; nothing happens where it exists.
 *
 * In place of Node's `recursive` option, which never returns on file systems that report ENOENT for a folder whose
 * parent exists (/proc).
 *
 * @throws The system's error with its `code`: `EACCES`, `EEXIST` (a file is in the way), `ENOSPC`, …
 */
export function makeFolder(path: string): void {
  const missing: string[] = [];
  for (let dir = resolve(path); !isFolder(dir) && dir !== dirname(dir); dir = dirname(dir)) missing.push(dir);
  for (const dir of missing.reverse()) {
    try {
      mkdirSync(dir);
    } catch (error) {
      // Another process may have made it.
      if (!isFolder(dir)) throw error;
    }
  }
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}
