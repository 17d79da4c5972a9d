/**
 * The inputs of an addon build: sources, flags, and the key that names the finished build.
 *
 * The key is a hash over the libtorch (path, version), the sources and the flags, so builds for several
 * libtorchs live side by side, and the loader knows without starting a process which one it needs.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Host } from './host.js';
import { compareVersions, type Libtorch } from './libtorch.js';

/** One build of the addon, not yet carried out. */
export interface Recipe {
  /** Name of the build's folder: 12 hexadecimal digits. */
  readonly key: string;
  /** Absolute paths of the C++ files. */
  readonly sources: readonly string[];
  readonly compileFlags: readonly string[];
  readonly linkFlags: readonly string[];
  /** Hash of everything but the one source file that goes into its object. */
  readonly objectSalt: string;
}

/** Works out how to build the addon against a libtorch. */
export function makeRecipe(host: Host, libtorch: Libtorch): Recipe {
  const nativeDir = join(host.packageDir, 'native');
  const names = readdirSync(nativeDir).sort();
  const sources = names.filter((name) => name.endsWith('.cc')).map((name) => join(nativeDir, name));
  const headers = names.filter((name) => name.endsWith('.h')).map((name) => join(nativeDir, name));
  const headersPackage = nodeApiHeaders(host);
  const compileFlags = compileFlagsFor(libtorch, join(headersPackage, 'include'));
  const linkFlags = linkFlagsFor(host, libtorch);

  const objectSalt = digest([
    libtorch.root,
    libtorch.version,
    host.arch,
    // Where Node's headers lie makes no difference to an object, which headers they are does.
    ...compileFlags.filter((flag) => !flag.startsWith(headersPackage)),
    read(join(headersPackage, 'package.json')),
    ...headers.map(read),
  ]);
  const key = digest([objectSalt, ...linkFlags, ...sources.map(read)]).slice(0, 12);
  return { key, sources, compileFlags, linkFlags, objectSalt };
}

/** SHA-256 of a list of texts, in hexadecimal. */
export function digest(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}

const read = (path: string): string => readFileSync(path, 'utf8');

function compileFlagsFor(libtorch: Libtorch, nodeHeaders: string): string[] {
  // `-isystem` of a folder that the compiler searches anyway would break its own #include_next.
  const searchedAnyway = ['/usr/include', '/usr/local/include'];
  const includeDirs = libtorch.includeDirs.filter((dir) => !searchedAnyway.includes(dir));
  return [
    compareVersions(libtorch.version, '2.13') >= 0 ? '-std=c++20' : '-std=c++17',
    '-O2',
    '-fPIC',
    '-fvisibility=hidden',
    '-pthread',
    '-Wall',
    `-D_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi ? 1 : 0}`,
    '-DNAPI_VERSION=8',
    '-isystem',
    nodeHeaders,
    ...includeDirs.flatMap((dir) => ['-isystem', dir]),
  ];
}

function linkFlagsFor(host: Host, libtorch: Libtorch): string[] {
  // Only the CPU half is linked: where there is a GPU, the addon opens libtorch_cuda itself (native/runtime.cc).
  const libraries = ['-ltorch_cpu', '-lc10'];
  if (host.platform === 'darwin') {
    const rpath = `-Wl,-rpath,${libtorch.libDir}`;
    return ['-shared', '-undefined', 'dynamic_lookup', `-L${libtorch.libDir}`, rpath, ...libraries];
  }
  // The old kind of rpath also serves the libraries' own dependencies (an unpacked Debian libtorch).
  return [
    '-shared',
    '-pthread',
    `-L${libtorch.libDir}`,
    '-Wl,--disable-new-dtags',
    `-Wl,-rpath,${libtorch.libDir}`,
    ...libraries,
    '-ldl',
  ];
}

/** The folder of the npm package with Node-API's headers. */
function nodeApiHeaders(host: Host): string {
  const require = createRequire(join(host.packageDir, 'package.json'));
  return dirname(require.resolve('node-api-headers/package.json'));
}
