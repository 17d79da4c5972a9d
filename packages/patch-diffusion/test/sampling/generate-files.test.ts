/** Files that `generate` writes where the system is in the way. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { bin, runCli } from '../helpers/cli.js';

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

it.runIf(process.platform === 'linux')('ends at once where no folder can be made', async () => {
  for (const flags of [
    ['--out', '/proc/none/images'],
    ['--grid', '/proc/none/sheet.png'],
  ]) {
    const { code, stderr } = await runCli([
      'generate',
      '--run',
      run,
      '--steps',
      '1',
      '--count',
      '1',
      ...flags,
    ]);
    expect(stderr).toMatch(/^error: cannot write to \/proc\/none.*; .*\n$/);
    expect(code).toBe(1);
  }
});

it('removes what a killed process left behind, and nothing else', async () => {
  const out = join(dir, 'left');
  await mkdir(out);
  const child = spawn(process.execPath, ['-e', '']);
  await once(child, 'exit');
  const [left, living] = [child.pid, process.pid].map((pid) => `.000000.png.${pid}-0a1b2c3d.tmp`);
  for (const name of [left, living, 'own.tmp']) await writeFile(join(out, name), 'x');
  const { code, stderr } = await runCli([
    ...['generate', '--run', run, '--steps', '1', '--count', '1', '--out', out],
  ]);
  expect(code, stderr).toBe(0);
  expect(await readdir(out)).toEqual([living, '000000.png', 'own.tmp']);
});

it.skipIf(process.platform === 'win32')('says in one line that the limit of open files is too low', () => {
  const { status, stderr } = generateWithFiles(70, 1, join(dir, 'few'));
  expect(stderr).toMatch(/^error: the limit of open files is too low.*\(ulimit -n 1024\).*\n$/);
  expect(status).toBe(1);
});
