/**
 * Generates src/ops/generated.ts: the operators' TypeScript signatures, from libtorch's own schemas.
 *
 *   node packages/torch/scripts/generate-ops.mjs           writes the file
 *   node packages/torch/scripts/generate-ops.mjs --check   fails when the committed file is stale; exit status 77:
 *                                                          it was made from another libtorch, so nobody can tell
 *
 * Needs a built addon with the newest supported libtorch (TORCH_ADDON=path, or what the loader finds), because
 * newer schemas have more arguments; an older libtorch at run time binds the arguments that it knows by name.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { emitFile } from './emit.mjs';
import { camelCase, parseSchema } from './schema.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, '../src/ops/generated.ts');

async function addonPath() {
  if (process.env.TORCH_ADDON) return process.env.TORCH_ADDON;
  const { locateAddon } = await import('../dist/setup/addon.js');
  return locateAddon().addon;
}

/** The curated list: [{section, name, overloads, doc}]. */
function readList() {
  const operators = [];
  let section = '';
  for (const line of readFileSync(join(here, 'operators.txt'), 'utf8').split('\n')) {
    if (line.startsWith('## ')) section = line.slice(3).trim();
    if (!line.trim() || line.startsWith('#')) continue;
    const bar = line.indexOf('|');
    if (bar < 0) throw new Error(`operators.txt: no "|" in: ${line}`);
    const [name, ...overloads] = line.slice(0, bar).trim().split(/\s+/);
    operators.push({
      section,
      name,
      overloads: (overloads.length ? overloads : ['-']).map((overload) => (overload === '-' ? '' : overload)),
      doc: line.slice(bar + 1).trim(),
    });
  }
  return operators;
}

const addon = createRequire(import.meta.url)(await addonPath());
const version = addon.version().torch;
const committed = existsSync(target) ? readFileSync(target, 'utf8') : '';
if (process.argv.includes('--check')) {
  const madeFrom = /^\/\/ Generated .* of libtorch (\S+)/.exec(committed)?.[1];
  if (madeFrom !== version) {
    console.log(
      `src/ops/generated.ts was made from libtorch ${madeFrom}; with ${version} it cannot be checked.`,
    );
    process.exit(77);
  }
}
const schemas = new Map();
for (const text of addon.schemas()) {
  const name = text.slice('aten::'.length, text.indexOf('('));
  schemas.set(name, text);
}
const missing = [];
const operators = readList().map((operator) => ({
  ...operator,
  jsName: camelCase(operator.name),
  variants: operator.overloads.flatMap((overload) => {
    const key = overload ? `${operator.name}.${overload}` : operator.name;
    if (!schemas.has(key)) missing.push(key);
    return schemas.has(key) ? [{ overload, ...parseSchema(schemas.get(key)) }] : [];
  }),
}));
if (missing.length) {
  console.error(`libtorch ${version} lacks: ${missing.join(', ')}. Use the newest one.`);
  process.exit(1);
}
const format = spawnSync('npx', ['biome', 'format', `--stdin-file-path=${target}`], {
  input: emitFile(operators, version),
  encoding: 'utf8',
  cwd: join(here, '../../..'),
});
if (format.status !== 0) throw new Error(format.stderr);
if (process.argv.includes('--check')) {
  if (committed !== format.stdout) {
    console.error('src/ops/generated.ts is stale: run node packages/torch/scripts/generate-ops.mjs');
    process.exit(1);
  }
  console.log('src/ops/generated.ts is up to date.');
} else {
  writeFileSync(target, format.stdout);
  console.log(`${operators.length} operators, libtorch ${version}: ${target}`);
}
