/**
 * Finds libtorch, in the order that users of tch-rs know: `LIBTORCH`, Python's torch, the project's own copy,
 * the system's.
 *
 * A variable that is set but names no usable libtorch is an error. Only `LIBTORCH_USE_PYTORCH=1`
 * starts a process (python3, which looks up where torch is installed without importing it).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { findProgram, type Host, storeDirs } from './host.js';
import { inspectLibtorch, type Libtorch } from './libtorch.js';
import { ISOLATED } from './processes.js';

/** Which rule found it. */
export type Origin =
  | 'LIBTORCH'
  | 'LIBTORCH_USE_PYTORCH'
  | 'virtual environment'
  | 'conda environment'
  | 'project'
  | 'user cache'
  | 'python3'
  | 'system';

/** A libtorch and how it was found. */
export interface FoundLibtorch extends Libtorch {
  readonly origin: Origin;
}

/** One place that was looked at, in order. */
export interface Attempt {
  readonly what: string;
  readonly path?: string;
  readonly result: string;
}

/** The outcome of a search. */
export interface Search {
  readonly libtorch?: FoundLibtorch;
  readonly tried: readonly Attempt[];
  /** The variable that is set but names no usable libtorch: nothing else was tried. */
  readonly wrongVariable?: 'LIBTORCH' | 'LIBTORCH_USE_PYTORCH';
  /** Versions that were found but are too old. */
  readonly tooOld: readonly string[];
}

/** Asks Python where its `torch` is installed; the default of {@link locateLibtorch}. */
export type AskPython = (host: Host) => { path?: string; result: string };

/** Looks for libtorch; never throws for what it finds or does not. */
export function locateLibtorch(host: Host, askPython: AskPython = askPythonForTorch): Search {
  const tried: Attempt[] = [];
  const tooOld: string[] = [];
  const look = (origin: Origin, what: string, path: string): FoundLibtorch | undefined => {
    const seen = inspectLibtorch(path);
    if (!('problem' in seen)) {
      tried.push({ what, path, result: `found ${seen.version}` });
      return { ...seen, origin };
    }
    if (seen.tooOld) tooOld.push(seen.tooOld);
    tried.push({ what, path, result: seen.problem });
    return undefined;
  };
  const { env } = host;

  if (env.LIBTORCH) {
    const libtorch = look('LIBTORCH', 'LIBTORCH', env.LIBTORCH);
    return libtorch ? { libtorch, tried, tooOld } : { tried, tooOld, wrongVariable: 'LIBTORCH' };
  }
  tried.push({ what: 'LIBTORCH', result: 'not set' });

  if (env.LIBTORCH_USE_PYTORCH === '1') {
    const { path, result } = askPython(host);
    if (path === undefined) tried.push({ what: 'LIBTORCH_USE_PYTORCH=1', result });
    const libtorch = path && look('LIBTORCH_USE_PYTORCH', 'LIBTORCH_USE_PYTORCH=1', path);
    return libtorch ? { libtorch, tried, tooOld } : { tried, tooOld, wrongVariable: 'LIBTORCH_USE_PYTORCH' };
  }
  for (const [origin, what, path] of candidates(host, tried)) {
    const libtorch = look(origin, what, path);
    if (libtorch) return { libtorch, tried, tooOld };
  }
  return { tried, tooOld };
}

/** The places to look at when no variable of ours is set; those known to be absent are added to `tried`. */
function* candidates(host: Host, tried: Attempt[]): Generator<[Origin, string, string]> {
  for (const [origin, variable] of [
    ['virtual environment', 'VIRTUAL_ENV'],
    ['conda environment', 'CONDA_PREFIX'],
  ] as const) {
    const prefix = host.env[variable];
    const folders = prefix ? pythonTorchFolders(prefix) : [];
    const what = `torch of the active ${origin}`;
    for (const folder of folders) yield [origin, what, folder];
    if (folders.length === 0)
      tried.push({ what, result: prefix ? `not installed in ${prefix}` : 'none active' });
  }
  const [project, cache] = storeDirs(host) as [string, string];
  yield ['project', "the project's own copy", storeFolder(project)];
  yield ['user cache', "the user's own copy", storeFolder(cache)];
  const prefixes = pythonPrefixes(host);
  for (const folder of new Set(prefixes.flatMap(pythonTorchFolders)))
    yield ['python3', 'torch of python3 in PATH', folder];
  const brew = host.platform === 'darwin' ? ['opt/homebrew/opt/pytorch', 'usr/local/opt/pytorch'] : [];
  const system = [...brew, 'usr', 'usr/local'].map((folder) => join(host.systemRoot, folder));
  for (const folder of [...system, ...system.flatMap(pythonTorchFolders)])
    yield ['system', "the system's", folder];
}

/** A store holds what a wheel unpacks to (`torch/`), or a libtorch archive's content directly. */
function storeFolder(store: string): string {
  const inner = join(store, 'torch');
  return existsSync(inner) || !existsSync(join(store, 'lib')) ? inner : store;
}

/** Prefixes of PATH's python3: of the file found there (a virtual environment's link), and of what that links to. */
function pythonPrefixes(host: Host): string[] {
  const python = findProgram(host, 'python3');
  return python ? [python, realpathSync(python)].map((path) => dirname(dirname(path))) : [];
}

/** `torch` folders below the prefix of a Python environment. */
function pythonTorchFolders(prefix: string): string[] {
  return ['lib', 'lib64']
    .map((name) => join(prefix, name))
    .filter((lib) => existsSync(lib))
    .flatMap((lib) =>
      readdirSync(lib)
        .filter((name) => /^python\d/.test(name))
        .flatMap((name) =>
          ['site-packages/torch', 'dist-packages/torch'].map((folder) => join(lib, name, folder)),
        ),
    )
    .filter((folder) => existsSync(folder));
}

function askPythonForTorch(host: Host): { path?: string; result: string } {
  // An isolated Python leaves out the user's own packages; outside of a virtual environment they count.
  const script = `
import importlib.util, site, sys
if sys.prefix == sys.base_prefix: sys.path.append(site.getusersitepackages())
spec = importlib.util.find_spec("torch")
print(spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else "")`;
  for (const python of ['python3', 'python']) {
    const run = spawnSync(python, [ISOLATED, '-c', script], {
      cwd: '/',
      encoding: 'utf8',
      env: { ...host.env },
      timeout: 30_000,
    });
    if (run.error) continue;
    const path = run.stdout.trim();
    return path ? { path, result: 'found' } : { result: `${python} has no torch` };
  }
  return { result: 'no python3 in PATH' };
}

/** The search as lines of text, for messages and for the doctor. */
export function describeAttempts(tried: readonly Attempt[]): string {
  return tried.map(({ what, path, result }) => `  ${what}${path ? ` (${path})` : ''}: ${result}`).join('\n');
}
