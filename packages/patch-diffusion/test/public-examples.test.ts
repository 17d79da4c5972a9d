/**
 * Every public function has an example in its documentation; they pass the type check and run. They are written for a
 * folder with photos/ and photos.zip (16 px), the run runs/00000-photos, and an autoencoder in vae/; all public names
 * of the package are in scope, `torch` and `writeFile` too.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import ts from 'typescript';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenDir } from './helpers/golden.js';
import { writeRamps, writeTinyAutoencoder } from './helpers/tiny-autoencoder.js';

const root = resolve(import.meta.dirname, '../../..');
const entries = { index: '', method: '/method', run: '/run', samplers: '/samplers' };
const checkpoint = join(goldenDir, 'checkpoints/patch_ddpmpp/network-snapshot-000012.pkl');

const options: ts.CompilerOptions = {
  ...{ module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, strict: true },
  ...{ target: ts.ScriptTarget.ES2022, lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'] },
  ...{ types: ['node'], typeRoots: [join(root, 'node_modules/@types')], noEmit: true, skipLibCheck: true },
};

/** All public names with the entry point that has them, and the functions' examples. */
function readEntries() {
  const file = (name: string) => join(root, `packages/patch-diffusion/src/${name}.ts`);
  const program = ts.createProgram(Object.keys(entries).map(file), options);
  const checker = program.getTypeChecker();
  const origin = new Map<string, string>();
  const examples = new Map<string, string | undefined>();
  for (const [entry, path] of Object.entries(entries)) {
    const module = checker.getSymbolAtLocation(program.getSourceFile(file(entry))!)!;
    for (const symbol of checker.getExportsOfModule(module)) {
      origin.set(symbol.name, `patch-diffusion${path}`);
      const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
      if (!(target.flags & ts.SymbolFlags.Function)) continue;
      const tag = target.getJsDocTags(checker).find(({ name }) => name === 'example');
      const text = ts.displayPartsToString(tag?.text);
      examples.set(symbol.name, /^```ts\n([\s\S]*?)\n```$/.exec(text.trim())?.[1]);
    }
  }
  return { origin, examples };
}

/** A module with an example, for whose names imports are put in front. */
function moduleOf(code: string, origin: ReadonlyMap<string, string>): string {
  const words = new Set(code.match(/\b[A-Za-z_]\w*\b/g));
  const imports = [...origin]
    .filter(([name]) => words.has(name) && !new RegExp(`\\b(const|let) ${name}\\b`).test(code))
    .map(([name, from]) => `import { ${name} } from '${from}';`);
  const torch = "import * as torch from '@patch-diffusion/torch';";
  return [...imports, torch, "import { writeFile } from 'node:fs/promises';", code].join('\n');
}

describe('the examples of the public functions', () => {
  const { origin, examples } = readEntries();
  // Below the project, so that the examples find the packages by their names.
  const dir = join(root, 'node_modules/.cache/patch-diffusion-examples');
  const cases = [...examples].flatMap(([name, code]) => (code ? [{ name, code }] : []));

  beforeAll(async () => {
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(join(dir, 'runs'), { recursive: true });
    const old = join(import.meta.dirname, 'fixtures/old-run');
    cpSync(join(old, 'cats-16.zip'), join(dir, 'photos.zip'));
    cpSync(join(old, 'runs/00000-cats-16-old'), join(dir, 'runs/00000-photos'), { recursive: true });
    await writeRamps(join(dir, 'photos'), 4, { width: 64, height: 64 });
    await writeTinyAutoencoder(join(dir, 'vae'));
    if (existsSync(checkpoint)) cpSync(checkpoint, join(dir, 'network-snapshot-000012.pkl'));
    for (const { name, code } of cases) writeFileSync(join(dir, `${name}.ts`), moduleOf(code, origin));
  });
  afterAll(() => rmSync(dir, { recursive: true, force: true }));

  it('are there', () => {
    const without = [...examples].filter(([, code]) => code === undefined).map(([name]) => name);
    expect(without).toEqual([]);
    expect(cases.length).toBeGreaterThan(50);
  });

  it('pass the type check', () => {
    const program = ts.createProgram(
      cases.map(({ name }) => join(dir, `${name}.ts`)),
      options,
    );
    const diagnostics = cases.flatMap(({ name }) =>
      ts.getPreEmitDiagnostics(program, program.getSourceFile(join(dir, `${name}.ts`))),
    );
    expect(ts.formatDiagnostics(diagnostics, ts.createCompilerHost(options))).toBe('');
  });

  it('run', () => {
    const runnable = cases.filter(({ name }) => name !== 'importCheckpoint' || existsSync(checkpoint));
    if (runnable.length < cases.length)
      console.warn(`the example of importCheckpoint is skipped: no ${checkpoint}`);
    for (const { name, code } of runnable) {
      const compilerOptions = { ...options, module: ts.ModuleKind.ESNext };
      const { outputText } = ts.transpileModule(moduleOf(code, origin), { compilerOptions });
      writeFileSync(join(dir, `${name}.mjs`), outputText);
    }
    const script = `for (const name of ${JSON.stringify(runnable.map(({ name }) => name))}) {
      try { await import(\`\${process.cwd()}/\${name}.mjs\`); }
      catch (error) { console.error(\`example of \${name}:\`, error); process.exitCode = 1; }
    }`;
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { cwd: dir, stdio: 'pipe' });
  });
});
