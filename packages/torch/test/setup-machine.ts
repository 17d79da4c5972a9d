/** Made-up machines for the set-up's tests: folders that look like a libtorch, and a host that sees only them. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Host } from '../src/setup/host.js';

/** A temporary folder, removed by the caller through {@link dropTemporary}. */
export const makeTemporary = (): string => mkdtempSync(join(tmpdir(), 'pd-setup-'));
export const dropTemporary = (dir: string): void => rmSync(dir, { recursive: true, force: true });

export function put(path: string, text = ''): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

/** The files by which a libtorch is known, as pip's wheel (`pip`) or Debian's package (`debian`) has them. */
export function fakeLibtorch(
  root: string,
  version: string,
  layout: 'pip' | 'debian' = 'pip',
  extra: string[] = [],
): string {
  const lib = layout === 'pip' ? join(root, 'lib') : join(root, 'lib/x86_64-linux-gnu');
  const header = `#define TORCH_VERSION \\\n  "${version.replace(/\+.*/, '')}"\n`;
  put(join(root, 'include/torch/csrc/api/include/torch/version.h'), header);
  for (const name of ['torch_cpu', 'c10', ...extra]) put(join(lib, `lib${name}.so`));
  if (layout === 'pip') put(join(root, 'version.py'), `__all__ = []\n__version__ = '${version}'\n`);
  return root;
}

/** A Linux machine below `root`, on which nothing is installed. */
export function fakeHost(root: string, env: Record<string, string> = {}, more: Partial<Host> = {}): Host {
  return {
    env: { PATH: join(root, 'bin'), ...env },
    platform: 'linux',
    arch: 'x64',
    systemRoot: join(root, 'system'),
    packageDir: join(root, 'project/packages/torch'),
    projectDir: join(root, 'project'),
    cacheDir: join(root, 'cache'),
    installed: false,
    ...more,
  };
}
