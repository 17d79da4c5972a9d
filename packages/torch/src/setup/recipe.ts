/**
 * The inputs of an addon build: sources, flags, and the key that names the finished build.
 *
 * The key is a hash over the libtorch (folder, version), the sources and the flags, so builds for several
 * libtorchs exist side by side, and the loader knows without starting a process which one it needs. A libtorch in
 * the project's folder is known by its path from there, to the key and to the addon: a project that was moved or
 * copied keeps its build.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname, join, relative } from 'node:path';
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
  /** Folder of the libtorch, relative to the project's where the project may move. */
  readonly libtorch: string;
}

/** Works out how to build the addon against a libtorch in a folder of builds. */
export function makeRecipe(host: Host, libtorch: Libtorch, buildDir: string): Recipe {
  const nativeDir = join(host.packageDir, 'native');
  const names = readdirSync(nativeDir, { recursive: true, encoding: 'utf8' }).sort();
  const sources = names.filter((name) => name.endsWith('.cc')).map((name) => join(nativeDir, name));
  const headers = names.filter((name) => name.endsWith('.h')).map((name) => join(nativeDir, name));
  const headersPackage = nodeApiHeaders(host);
  const glooNames = `-I${join(nativeDir, 'gloo-names')}`;
  const compileFlags = [glooNames, ...compileFlagsFor(libtorch, join(headersPackage, 'include'))];
  const build = realPath(buildDir);
  const project = realPath(host.projectDir);
  const movable = [libtorch.root, build].every((path) => !relative(project, path).startsWith('..'));
  const name = movable ? relative(project, libtorch.root) : libtorch.root;
  // The loader replaces the first part by the addon's folder, which lies in the folder of builds.
  const origin = host.platform === 'darwin' ? '@loader_path' : '$ORIGIN';
  const rpath = movable ? `${origin}/../${relative(build, libtorch.libDir)}` : libtorch.libDir;
  const linkFlags = linkFlagsFor(host, libtorch, rpath);

  const objectSalt = digest([
    libtorch.version,
    ...configurationOf(libtorch),
    host.arch,
    // Where headers lie makes no difference to an object, which headers they are does.
    ...compileFlags
      .filter((flag) => flag !== glooNames && !flag.startsWith(headersPackage))
      .map((flag) => flag.replace(libtorch.root, '')),
    read(join(headersPackage, 'package.json')),
    ...headers.map(read),
  ]);
  const named = linkFlags.map((flag) => flag.replace(libtorch.root, name));
  const key = digest([name, objectSalt, ...named, ...sources.map(read)]).slice(0, 12);
  return { key, sources, compileFlags, linkFlags, objectSalt, libtorch: name };
}

/** The headers that say how a libtorch was built; two of one version may differ in them. */
function configurationOf({ includeDirs }: Libtorch): string[] {
  const files = ['torch/version.h', 'ATen/Config.h', 'c10/macros/cmake_macros.h'];
  return files
    .flatMap((file) => includeDirs.map((dir) => join(dir, file)))
    .filter((path) => existsSync(path))
    .map(read);
}

/** A path without links; what does not exist yet is kept. */
function realPath(path: string): string {
  return existsSync(path) ? realpathSync(path) : join(realPath(dirname(path)), basename(path));
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
    // Square roots are instructions, then, not calls that may set errno.
    '-fno-math-errno',
    // libtorch is built without assertions, and some of its headers' classes are larger with them.
    '-DNDEBUG',
    '-isystem',
    nodeHeaders,
    ...includeDirs.flatMap((dir) => ['-isystem', dir]),
  ];
}

function linkFlagsFor(host: Host, libtorch: Libtorch, rpath: string): string[] {
  // Only the CPU half is linked: where there is a GPU, the addon opens libtorch_cuda itself (native/runtime.cc).
  const libraries = ['-ltorch_cpu', '-lc10'];
  const paths = [`-L${libtorch.libDir}`, `-Wl,-rpath,${rpath}`];
  if (host.platform === 'darwin') return ['-shared', '-undefined', 'dynamic_lookup', ...paths, ...libraries];
  // The old kind of rpath also serves the libraries' own dependencies (an unpacked Debian libtorch).
  return ['-shared', '-pthread', '-Wl,--disable-new-dtags', ...paths, ...libraries, '-ldl'];
}

/** The folder of the npm package with Node-API's headers. */
function nodeApiHeaders(host: Host): string {
  const require = createRequire(join(host.packageDir, 'package.json'));
  return dirname(require.resolve('node-api-headers/package.json'));
}
