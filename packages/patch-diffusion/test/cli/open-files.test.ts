import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const bin = fileURLToPath(new URL('../../bin/patch-diffusion.js', import.meta.url));

it('a low limit of open files suffices, or is one line with the remedy', () => {
  const command = 'ulimit -n 60 && exec "$0" "$@"';
  const { status, stderr } = spawnSync('bash', ['-c', command, process.execPath, bin, 'doctor'], {
    encoding: 'utf8',
  });
  // Node 22 and newer load modules one by one.
  if (status !== 0) expect(stderr).toMatch(/^error: the limit of open files is too low.*ulimit -n 1024.*\n$/);
});
