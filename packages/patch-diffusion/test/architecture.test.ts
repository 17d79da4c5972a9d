/**
 * The order of the source folders: a folder imports only from those before it. No file imports itself by a detour,
 * types included.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const ORDER = [
  'common',
  'distributed',
  'formats',
  'patches',
  'networks',
  'diffusion',
  'data',
  'config',
  'run',
  'latents',
  'interchange',
  'prepare',
  'training',
  'sampling',
  'evaluation',
  'studio',
  'cli',
];

const packages = resolve(dirname(fileURLToPath(import.meta.url)), '../..');
const productSource = join(packages, 'patch-diffusion/src');
const torchSource = join(packages, 'torch/src');

/** Relative imports of each file below a folder. */
function importsBelow(folder: string): Map<string, string[]> {
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  return new Map(
    files.map((name) => {
      const file = join(folder, name);
      const specifiers = [
        ...readFileSync(file, 'utf8').matchAll(/(?:from|import\()\s*'(\.{1,2}\/[^']+)\.js'/g),
      ];
      return [file, specifiers.map(([, path]) => `${resolve(dirname(file), path)}.ts`)];
    }),
  );
}

/** Files that reach themselves, as the path that leads back. */
function cycles(imports: Map<string, string[]>): string[][] {
  const done = new Set<string>();
  const found: string[][] = [];
  const visit = (file: string, path: string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) found.push([...path.slice(start), file]);
    if (start >= 0 || done.has(file)) return;
    for (const target of imports.get(file) ?? []) visit(target, [...path, file]);
    done.add(file);
  };
  for (const file of imports.keys()) visit(file, []);
  return found;
}

describe('source folders', () => {
  const imports = importsBelow(productSource);

  it('import only from those before them', () => {
    const folderOf = (file: string) => relative(productSource, file).split(sep).slice(0, -1)[0];
    const wrong: string[] = [];
    for (const [file, targets] of imports) {
      const folder = folderOf(file);
      // The package's entry points see everything.
      if (folder === undefined) continue;
      for (const target of targets) {
        const other = folderOf(target);
        const isBefore = other !== undefined && ORDER.indexOf(other) <= ORDER.indexOf(folder);
        if (!ORDER.includes(folder) || !isBefore) {
          wrong.push(`${relative(productSource, file)} imports ${relative(productSource, target)}`);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  it.each([
    ['patch-diffusion', imports],
    ['torch', importsBelow(torchSource)],
  ])('have no circles of files (%s)', (_, graph) => {
    const names = cycles(graph).map((path) => path.map((file) => relative(packages, file)).join(' → '));
    expect(names).toEqual([]);
  });
});
