/** What is shipped: small, without Node and without code that a content security policy forbids. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';

const dist = resolve(import.meta.dirname, '../dist');
const read = (file: string) => readFileSync(join(dist, file), 'utf8');

describe.each(['.', 'web'])('dist/%s', (folder) => {
  const files = [join(folder, 'index.js'), join(folder, 'worker.js')].map(read);

  it('is below 60 kB gzipped, page and worker together', () => {
    const bytes = files.map((code) => gzipSync(code).length).reduce((sum, size) => sum + size);
    expect(bytes).toBeLessThan(60_000);
  });

  it('imports onnxruntime-web and nothing else', () => {
    const imports = files.flatMap((code) =>
      [...code.matchAll(/(?:\bfrom|\bimport\(|^import)\s*["'`]([^"'`]+)/gm)].map(([, name]) => name),
    );
    const prefix = folder === 'web' ? '../../../../onnxruntime-web/dist/ort.' : 'onnxruntime-web/';
    expect(imports.length).toBeGreaterThan(0);
    expect(imports.filter((name) => !name.startsWith(prefix))).toEqual([]);
  });

  it('neither evaluates text nor uses Node', () => {
    for (const code of files)
      expect(code).not.toMatch(/\beval\(|new Function\(|\brequire\(|\bprocess\.\w|\bBuffer\./);
  });

  it('has types that need no other package', () => {
    const seen = new Set<string>();
    const visit = (file: string) => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const [, name] of read(file).matchAll(/from '([^']+)'/g)) {
        expect(name, `in ${file}`).toMatch(/^\.\//);
        visit(name.replace(/^\.\/(.*)\.js$/, '$1.d.ts'));
      }
    };
    visit('index.d.ts');
    expect(seen.size).toBeGreaterThan(2);
  });
});
