/**
 * What draws in the page: `@patch-diffusion/browser` and onnxruntime-web, from the packages that are installed, below `/npm/` as
 * servers of npm packages have them. Only the files listed here are served.
 */
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';

const BROWSER = '/npm/@patch-diffusion/browser/dist/web/';
const RUNTIME = '/npm/onnxruntime-web/dist/';

const BROWSER_FILES = ['index.js', 'worker.js'];
const RUNTIME_FILES = [
  ...['ort.wasm.bundle.min.mjs', 'ort-wasm-simd-threaded.wasm'],
  ...['ort.webgpu.bundle.min.mjs', 'ort-wasm-simd-threaded.asyncify.wasm'],
];

/** Files by their addresses; empty where the package is not installed. */
export function runtimeFiles(): ReadonlyMap<string, string> {
  try {
    const index = createRequire(import.meta.url).resolve('@patch-diffusion/browser/web');
    const runtime = dirname(createRequire(index).resolve('onnxruntime-web'));
    return new Map([
      ...BROWSER_FILES.map((name): [string, string] => [BROWSER + name, join(dirname(index), name)]),
      ...RUNTIME_FILES.map((name): [string, string] => [RUNTIME + name, join(runtime, name)]),
    ]);
  } catch {
    return new Map();
  }
}
