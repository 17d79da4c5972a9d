import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const bin = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));

it('too few open files to load the program are one line, with the remedy', () => {
  const command = 'ulimit -n 60 && exec "$0" "$@"';
  const { status, stderr } = spawnSync('bash', ['-c', command, process.execPath, bin, 'doctor'], {
    encoding: 'utf8',
  });
  expect(stderr).toMatch(/^error: the limit of open files is too low.*ulimit -n 1024.*\n$/);
  expect(status).toBe(1);
});
