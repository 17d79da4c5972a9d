/**
 * Runs the whole test suite against one libtorch:
 *
 *   npm run test:libtorch -- /path/to/libtorch            everything
 *   npm run test:libtorch -- /path/to/libtorch setup nn   only the test files whose names match
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [path, ...filters] = process.argv.slice(2);
if (!path || !existsSync(path)) {
  console.error(
    `${path ? `There is no folder ${path}` : 'Which libtorch?'}. Usage: npm run test:libtorch -- /path/to/libtorch [test name …]`,
  );
  process.exit(2);
}
const env = { ...process.env, LIBTORCH: resolve(path) };
for (const args of [['scripts/setup.mjs'], ['node_modules/vitest/vitest.mjs', 'run', ...filters]]) {
  const { status } = spawnSync(process.execPath, args, { cwd: root, env, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
