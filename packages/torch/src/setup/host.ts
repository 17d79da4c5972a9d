/**
 * What the set-up knows about the machine: environment, folders, distribution, GPU.
 *
 * Everything that looks for files takes a {@link Host}, so that a test can hand in a made-up machine.
 * Nothing here starts a process.
 */
import { accessSync, constants, existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { arch, homedir } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeFolder } from '../make-folder.js';
import { isAlive } from '../process-alive.js';

/** A machine, seen from one installed copy of this package. */
export interface Host {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly platform: NodeJS.Platform;
  readonly arch: string;
  /** Where the system's own folders begin: `/`, or a made-up root in tests. */
  readonly systemRoot: string;
  /** The folder of @patch-diffusion/torch (holds `native/` and `package.json`). */
  readonly packageDir: string;
  /** The folder that holds `node_modules`, or the root of the repository; `.libtorch/` lies here. */
  readonly projectDir: string;
  /** Per-user folder for what cannot be written beside the project. */
  readonly cacheDir: string;
  /** True when the package is installed under a `node_modules` folder, false in the repository. */
  readonly installed: boolean;
}

/** The nearest folder at or above `from` that holds a `package.json`. */
function nearestPackage(from: string): string {
  let dir = from;
  while (!existsSync(join(dir, 'package.json'))) {
    const up = dirname(dir);
    if (up === dir) throw new Error(`internal: no package.json above ${from}`);
    dir = up;
  }
  return dir;
}

/**
 * The project that a package folder belongs to: above the first `node_modules` in its path, or, in the
 * repository, two folders up from `packages/torch`.
 */
export function projectOf(packageDir: string): { projectDir: string; installed: boolean } {
  const parts = packageDir.split(sep);
  const at = parts.indexOf('node_modules');
  if (at > 0) return { projectDir: parts.slice(0, at).join(sep) || sep, installed: true };
  return { projectDir: dirname(dirname(packageDir)), installed: false };
}

/** Per-user cache folder by the platform's convention. */
export function userCacheDir(env: Host['env'], platform: NodeJS.Platform, home: string): string {
  if (env.XDG_CACHE_HOME) return join(env.XDG_CACHE_HOME, 'patch-diffusion');
  if (platform === 'darwin') return join(home, 'Library', 'Caches', 'patch-diffusion');
  return join(home, '.cache', 'patch-diffusion');
}

/** The machine that this process runs on. */
export function thisHost(): Host {
  const packageDir = nearestPackage(dirname(fileURLToPath(import.meta.url)));
  const { env, platform } = process;
  return {
    env,
    platform,
    arch: arch(),
    systemRoot: '/',
    packageDir,
    ...projectOf(packageDir),
    cacheDir: userCacheDir(env, platform, homedir()),
  };
}

/** True where an NVIDIA driver is loaded (Linux, or Windows' Linux subsystem). */
export function hasNvidiaGpu(host: Pick<Host, 'systemRoot'>): boolean {
  return ['proc/driver/nvidia/version', 'dev/nvidiactl', 'usr/lib/wsl/lib/libcuda.so.1'].some((path) =>
    existsSync(join(host.systemRoot, path)),
  );
}

/** `ID` and `ID_LIKE` of os-release, such as `['ubuntu', 'debian']`; empty where there is none. */
export function distribution(host: Pick<Host, 'systemRoot'>): string[] {
  for (const path of ['etc/os-release', 'usr/lib/os-release']) {
    try {
      const text = readFileSync(join(host.systemRoot, path), 'utf8');
      return [...text.matchAll(/^(?:ID|ID_LIKE)="?([^"\n]*)"?$/gm)].flatMap((match) => match[1].split(' '));
    } catch {
      // the next place
    }
  }
  return [];
}

/** Where a fetched libtorch may lie, the best place first: beside the project, else in the user's cache. */
export function storeDirs(host: Pick<Host, 'projectDir' | 'cacheDir'>): string[] {
  return [join(host.projectDir, '.libtorch'), join(host.cacheDir, 'libtorch')];
}

/** The first of some folders that can be made and written to. */
export function firstWritable(dirs: readonly string[]): string | undefined {
  return dirs.find((dir) => {
    try {
      makeFolder(dir);
      accessSync(dir, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The command that runs the set-up; with `fetch`, one that also downloads the newest libtorch. */
export function setupCommand(
  host: Pick<Host, 'installed' | 'projectDir'>,
  { fetch = false }: { fetch?: boolean } = {},
): string {
  if (!host.installed) return `npm run setup${fetch ? ' -- --fetch' : ''}`;
  if (existsSync(join(host.projectDir, 'node_modules/patch-diffusion'))) {
    return `npx patch-diffusion setup${fetch ? ' --fetch' : ''}`;
  }
  // This package alone has no command line; its set-up is a function.
  const options = `{ log: console.log${fetch ? ', fetch: true' : ''} }`;
  return `node -e "import('@patch-diffusion/torch/setup').then(({ setup }) => setup(${options}))"`;
}

/** Finds a program in `PATH`, as a shell would. */
export function findProgram(host: Pick<Host, 'env'>, name: string): string | undefined {
  if (name.includes(sep)) return existsSync(name) ? name : undefined;
  return (host.env.PATH ?? '')
    .split(':')
    .filter(Boolean)
    .map((dir) => join(dir, name))
    .find((path) => existsSync(path));
}

/** Removes working folders (`.name-<process id>`) and half-written objects (`name.o.<process id>`) of a killed set-up. */
export function removeAbandoned(dir: string): void {
  for (const name of readdirSync(dir)) {
    const pid = /^(?:\.\w+-|.*\.o\.)(\d+)$/.exec(name)?.[1];
    if (pid && !isAlive(Number(pid))) rmSync(join(dir, name), { recursive: true, force: true });
  }
}
