/** Packs the archive: copies what it holds into a folder, and compresses that. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { bundleGoldenTests } from './bundle-tests.js';
import { archiveEntries, checkSize, goldenFiles, LINKS, totalBytes } from './contents.js';

const MB = 1e6;

/** What may be copied to a machine at once, and how much of it the vectors may take before compression. */
export const LIMITS = { archiveBytes: 60 * MB, goldenBytes: 20 * MB } as const;

export interface PackOptions {
  /** The repository. */
  readonly root: string;
  /** Folder of the recorded vectors. */
  readonly golden: string;
  /** The archive; another one there is replaced. */
  readonly file: string;
  readonly log: (line: string) => void;
}

export interface Packed {
  readonly bytes: number;
  readonly goldenBytes: number;
}

/** @throws Error if a program or file is missing, or the archive becomes too large (it is not kept then) */
export async function pack({ root, golden, file, log }: PackOptions): Promise<Packed> {
  const vectors = goldenFiles(golden);
  const goldenBytes = totalBytes(golden, vectors);
  checkSize('the chosen vectors', goldenBytes, LIMITS.goldenBytes);
  if (vectors.length === 0)
    log(
      `There are no recorded vectors in ${golden} (set GOLDEN_DIR or SHARED_DIR): the stages golden/… and runs will be skipped.`,
    );
  // On the same disk as the archive; the system's temporary folder may be small.
  const temporary = mkdtempSync(join(dirname(file), '.gpu-check-'));
  const work = join(temporary, 'gpu-check');
  try {
    log('Copying …');
    mkdirSync(work);
    for (const { from, to, keep } of archiveEntries(root))
      cpSync(from, join(work, to), {
        recursive: true,
        filter: (path) => keep?.(relative(from, path)) ?? true,
      });
    for (const vector of vectors) copyInto(join(work, 'golden'), vector, golden);
    for (const [path, target] of Object.entries(LINKS)) {
      mkdirSync(dirname(join(work, path)), { recursive: true });
      symlinkSync(target, join(work, path));
    }
    if (vectors.length) await bundleGoldenTests(root, join(work, 'golden-tests'));
    addNode(join(work, 'node'));
    log('Compressing (about a minute) …');
    compress(work, file);
    const bytes = statSync(file).size;
    checkSize(`the archive ${file}`, bytes, LIMITS.archiveBytes);
    return { bytes, goldenBytes };
  } catch (error) {
    rmSync(file, { force: true });
    throw error;
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function copyInto(folder: string, path: string, from: string): void {
  mkdirSync(dirname(join(folder, path)), { recursive: true });
  copyFileSync(join(from, path), join(folder, path));
}

/** The program that runs this, without its symbols where `strip` is there. */
function addNode(to: string): void {
  const stripped = spawnSync('strip', ['-o', to, process.execPath], { stdio: 'ignore' });
  if (stripped.status !== 0 || spawnSync(to, ['--version']).status !== 0) copyFileSync(process.execPath, to);
  chmodSync(to, 0o755);
}

function compress(folder: string, file: string): void {
  const args = ['-cJf', file, '-C', dirname(folder), '--owner=0', '--group=0', 'gpu-check'];
  const { status, stderr, error } = spawnSync('tar', args, {
    env: { ...process.env, XZ_OPT: '-6 -T0' },
    encoding: 'utf8',
  });
  if (error) throw new Error(`tar: ${error.message}`);
  if (status !== 0 || !existsSync(file)) throw new Error(`tar failed: ${stderr.trim()}`);
}
