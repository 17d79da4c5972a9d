/** Files that `generate` writes where the system is in the way. */
import { spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bin } from '../helpers/cli.js';

const run = fileURLToPath(new URL('../fixtures/old-run/runs/00000-cats-16-old', import.meta.url));

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'generate-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Runs `generate` for so many images, in one batch, with a limit of open files. */
function generateWithFiles(limit: number, count: number, out: string) {
  const command = `ulimit -n ${limit} && exec "$0" "$@"`;
  const flags = [
    'generate',
    '--run',
    run,
    '--steps',
    '1',
    '--count',
    String(count),
    '--batch',
    String(count),
  ];
  return spawnSync('bash', ['-c', command, process.execPath, bin, ...flags, '--out', out], {
    encoding: 'utf8',
  });
}

it.skipIf(process.platform === 'win32')('does not open the files of a batch at once', async () => {
  const out = join(dir, 'many');
  const { status, stderr } = generateWithFiles(120, 300, out);
  expect(status, stderr).toBe(0);
  expect(await readdir(out)).toHaveLength(300);
});

it.skipIf(process.platform === 'win32')('says in one line that the limit of open files is too low', () => {
  const { status, stderr } = generateWithFiles(70, 1, join(dir, 'few'));
  expect(stderr).toMatch(/^error: the limit of open files is too low.*\(ulimit -n 1024\).*\n$/);
  expect(status).toBe(1);
});
