// Makes src/data/pixels-wasm.ts of wasm/pixels.as.ts: node scripts/build-wasm.mjs (downloads the compiler).
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('../wasm/pixels.as.ts', import.meta.url));
const target = fileURLToPath(new URL('../src/data/pixels-wasm.ts', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'wasm-'));
try {
  const wasm = join(folder, 'pixels.wasm');
  const compiler = ['--yes', '--package', 'assemblyscript@0.28.20', '--', 'asc'];
  const flags = [
    '-O3',
    '--runtime',
    'stub',
    '--enable',
    'simd',
    '--enable',
    'bulk-memory',
    '--noAssert',
    '--importMemory',
  ];
  execFileSync('npx', [...compiler, source, ...flags, '--outFile', wasm], { stdio: 'inherit', cwd: folder });
  const hash = createHash('sha256').update(readFileSync(source)).digest('hex');
  writeFileSync(
    target,
    `// biome-ignore-all format: generated
// WebAssembly of wasm/pixels.as.ts by AssemblyScript 0.28.20. Do not edit: scripts/build-wasm.mjs makes it anew.

/** SHA-256 of the source that this was made of. */
export const SOURCE_SHA256 = '${hash}';

export const WASM_BASE64 =
  '${readFileSync(wasm).toString('base64')}';
`,
  );
} finally {
  rmSync(folder, { recursive: true });
}
