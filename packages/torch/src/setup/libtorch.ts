/**
 * Reads what one folder holds of libtorch: where headers and libraries lie, its version, its ABI.
 *
 * Known layouts: a libtorch archive or a pip `torch` folder (`include/`, `lib/`), Debian and Ubuntu
 * (`/usr/include/torch`, `/usr/lib/<triplet>`), Fedora (`lib64`), Homebrew. Nothing is loaded or run.
 */
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

/** The oldest libtorch that the addon builds against (Debian 12 has it). */
export const OLDEST_LIBTORCH = '1.13';

/** A usable libtorch. */
export interface Libtorch {
  /** The folder as found, links resolved. */
  readonly root: string;
  readonly includeDirs: readonly string[];
  readonly libDir: string;
  /** Such as `2.13.0+cpu`; Debian's 1.13.1 calls itself 1.13.0 in its headers. */
  readonly version: string;
  /** Value of `_GLIBCXX_USE_CXX11_ABI` that it was compiled with. */
  readonly cxx11Abi: boolean;
  /** Holds the CUDA back-end. */
  readonly cuda: boolean;
}

/** Why a folder is no usable libtorch, in a few words. */
interface NotLibtorch {
  readonly problem: string;
  readonly tooOld?: string;
}

/** Compares dotted versions by their leading numbers: negative when `a` is older than `b`. */
export function compareVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((version) => version.split(/[^0-9]+/, 3).map(Number)) as [number[], number[]];
  for (let i = 0; i < 3; i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference) return difference;
  }
  return 0;
}

/** Looks at one folder. */
export function inspectLibtorch(folder: string): Libtorch | NotLibtorch {
  if (!existsSync(folder)) return { problem: 'no such folder' };
  const root = realpathSync(folder);
  const include = join(root, 'include');
  const api = join(include, 'torch/csrc/api/include');
  const libDir = libraryDirs(root).find((dir) => hasLibrary(dir, 'torch_cpu') && hasLibrary(dir, 'c10'));
  if (!existsSync(join(api, 'torch/version.h'))) {
    return { problem: libDir ? 'libraries, but no headers (include/torch)' : 'no libtorch there' };
  }
  if (!libDir) return { problem: 'headers, but no libtorch_cpu library' };
  const version = readVersion(root, libDir, include, api);
  if (!version)
    return { problem: 'its version could not be read (version.py, TorchConfigVersion.cmake, version.h)' };
  if (compareVersions(version, OLDEST_LIBTORCH) < 0) {
    return {
      problem: `version ${version} is too old (${OLDEST_LIBTORCH} or newer is needed)`,
      tooOld: version,
    };
  }
  return {
    root,
    includeDirs: [include, api],
    libDir,
    version,
    cxx11Abi: readAbi(root, libDir),
    cuda: hasLibrary(libDir, 'torch_cuda'),
  };
}

function libraryDirs(root: string): string[] {
  const lib = join(root, 'lib');
  const triplets = existsSync(lib) ? readdirSync(lib).filter((name) => /-linux-gnu/.test(name)) : [];
  return [lib, join(root, 'lib64'), ...triplets.map((name) => join(lib, name))];
}

function hasLibrary(dir: string, name: string): boolean {
  return existsSync(join(dir, `lib${name}.so`)) || existsSync(join(dir, `lib${name}.dylib`));
}

/** The most exact source first: pip's file, the archive's, CMake's, the headers (2.10 and later moved them). */
function readVersion(root: string, libDir: string, include: string, api: string): string | undefined {
  const sources: [string, RegExp][] = [
    [join(root, 'version.py'), /^__version__ = '([^']+)'/m],
    [join(root, 'build-version'), /^(\d\S*)/],
    [join(root, 'share/cmake/Torch/TorchConfigVersion.cmake'), /PACKAGE_VERSION "([^"]+)"/],
    [join(libDir, 'cmake/Torch/TorchConfigVersion.cmake'), /PACKAGE_VERSION "([^"]+)"/],
    [join(include, 'torch/headeronly/version.h'), /TORCH_VERSION\s*\\?\s*"([^"]+)"/],
    [join(api, 'torch/version.h'), /TORCH_VERSION\s*\\?\s*"([^"]+)"/],
  ];
  for (const [path, pattern] of sources) {
    const version = existsSync(path) ? pattern.exec(readFileSync(path, 'utf8'))?.[1] : undefined;
    if (version) return version;
  }
  return undefined;
}

/** TorchConfig.cmake names the ABI where it matters; libraries that do not say use the current one. */
function readAbi(root: string, libDir: string): boolean {
  for (const dir of [join(root, 'share/cmake'), join(libDir, 'cmake')]) {
    const path = join(dir, 'Torch/TorchConfig.cmake');
    if (existsSync(path)) return !readFileSync(path, 'utf8').includes('_GLIBCXX_USE_CXX11_ABI=0');
  }
  return true;
}
