/** What the archive holds: enough for a machine with PyTorch and a compiler, but without Node, npm and network. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { GOLDEN, IMAGE_SET } from './golden-folders.js';

/** One file or folder of the archive. */
export interface Entry {
  readonly from: string;
  /** Path in the archive. */
  readonly to: string;
  /** Whether files of the path below `from` come along; without it all do. */
  readonly keep?: (path: string) => boolean;
}

/** npm packages that the check loads; those that they depend on follow. The studio's and the command line's stay here. */
const PACKAGES = [
  '@bufbuild/protobuf',
  '@expo-google-fonts/dm-sans',
  'node-api-headers',
  'sharp',
  'yauzl',
  'zod',
] as const;

/** Links in `node_modules` to the packages of the repository. */
export const LINKS = {
  'node_modules/@patch-diffusion/torch': '../../packages/torch',
  'node_modules/patch-diffusion': '../packages/patch-diffusion',
} as const;

/** Nothing that runs: types, maps, documents, sources that were compiled, and the page of the studio. */
const isNeeded = (path: string): boolean =>
  !/\.(d\.[cm]?ts|map|md|tsbuildinfo)$/.test(path) && !/(^|\/)(studio-page|src)(\/|$)/.test(path);

/** The project's compiled code and native sources. */
function projectEntries(root: string): Entry[] {
  const parts: Record<string, readonly string[]> = {
    'packages/torch': ['dist', 'native', 'package.json', 'LICENSE'],
    'packages/patch-diffusion': ['dist', 'package.json', 'LICENSE'],
    benchmarks: ['dist', 'peer', 'package.json'],
  };
  return Object.entries(parts).flatMap(([folder, names]) =>
    names.map((name): Entry => {
      const to = `${folder}/${name}`;
      return { from: join(root, to), to, keep: isNeeded };
    }),
  );
}

/** The packages named and all that they depend on, as folders of `node_modules`; those of other platforms are not there. */
export function packageClosure(root: string, names: readonly string[] = PACKAGES): string[] {
  const found = new Set<string>();
  const visit = (name: string, isOptional: boolean): void => {
    const file = join(root, 'node_modules', name, 'package.json');
    if (found.has(name) || (isOptional && !existsSync(file))) return;
    if (!existsSync(file)) throw new Error(`${file} is missing; run: npm run setup`);
    found.add(name);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(file, 'utf8')) as Record<
      string,
      Record<string, string> | undefined
    >;
    for (const other of Object.keys(dependencies)) visit(other, other in optionalDependencies);
    for (const other of Object.keys(optionalDependencies)) visit(other, true);
  };
  for (const name of names) visit(name, false);
  return [...found].sort();
}

/**
 * The chosen vectors, as paths below the folder of vectors.
 * @throws Error if one that is listed is missing where its folder is there
 */
export function goldenFiles(folder: string): string[] {
  const files = Object.entries(GOLDEN).flatMap(([group, names]) => {
    const dir = join(folder, group);
    if (!existsSync(dir)) return [];
    const all = readdirSync(dir).filter((name) => name.endsWith('.safetensors'));
    return (names?.map((name) => `${name}.safetensors`) ?? all).map((name) => `${group}/${name}`);
  });
  if (files.length) files.push(IMAGE_SET);
  const missing = files.find((file) => !existsSync(join(folder, file)));
  if (missing) throw new Error(`${join(folder, missing)} is missing, though the list names it`);
  return files;
}

/** Everything but the vectors, which may be absent, and what is made while packing (the program Node, test bundles). */
export function archiveEntries(root: string): Entry[] {
  const packages = packageClosure(root).map((name): Entry => {
    const to = `node_modules/${name}`;
    return { from: join(root, to), to, keep: isNeeded };
  });
  return [
    ...projectEntries(root),
    ...packages,
    { from: join(root, 'benchmarks/gpu-check/run.sh'), to: 'run.sh' },
    { from: join(root, 'LICENSE'), to: 'LICENSE' },
  ];
}

/** @throws Error if something is larger than it may be, saying by how much */
export function checkSize(what: string, bytes: number, limitBytes: number): void {
  if (bytes <= limitBytes) return;
  const mb = (value: number): string => `${(value / 1e6).toFixed(1)} MB`;
  throw new Error(`${what}: ${mb(bytes)}, and at most ${mb(limitBytes)} are allowed`);
}

/** Sum of the sizes of files below a folder. */
export function totalBytes(folder: string, files: readonly string[]): number {
  return files.reduce((sum, file) => sum + statSync(join(folder, file)).size, 0);
}
