/** onnxruntime-web: which of its builds computes, and with how many threads. */
import type * as Ort from 'onnxruntime-web';
import { ModelError } from './errors.js';
import type { Backend } from './options.js';

export interface RuntimeOptions {
  readonly backend: Backend | 'auto';
  readonly threads: number | null;
  /** Address of onnxruntime-web's `dist`, or null for the one that was bundled. */
  readonly runtimeUrl: string | null;
}

export interface Runtime {
  readonly ort: typeof Ort;
  readonly backend: Backend;
  readonly threads: number;
  /** Why it is not WebGPU. */
  readonly fallbackReason: string | null;
}

/** More threads than this gain nothing on small images. */
const MAX_THREADS = 8;

/** A runtime for each backend that may be tried, the preferred one first. */
export async function chooseBackends({ backend }: RuntimeOptions): Promise<{
  readonly backends: readonly Backend[];
  readonly fallbackReason: string | null;
}> {
  if (backend === 'wasm') return { backends: ['wasm'], fallbackReason: null };
  const problem = await webGpuProblem(backend === 'webgpu');
  if (problem === null)
    return { backends: backend === 'auto' ? ['webgpu', 'wasm'] : ['webgpu'], fallbackReason: null };
  if (backend === 'auto') return { backends: ['wasm'], fallbackReason: problem };
  throw new ModelError('NO_WEBGPU', `${problem}; use backend: 'auto' or 'wasm'`);
}

/** Imports a build of onnxruntime-web. @throws ModelError when it cannot be loaded */
export async function openRuntime(
  backend: Backend,
  { threads, runtimeUrl }: RuntimeOptions,
): Promise<Pick<Runtime, 'ort' | 'threads'>> {
  const ort = await importRuntime(backend, runtimeUrl).catch((cause: unknown) => {
    throw new ModelError(
      'NO_RUNTIME',
      `onnxruntime-web could not be loaded${runtimeUrl === null ? '' : ` from ${runtimeUrl}`}; check that its dist folder is served, and say where with runtimeUrl`,
      { cause },
    );
  });
  const wanted = threads ?? Math.min(navigator.hardwareConcurrency, MAX_THREADS);
  // Threads share memory, which browsers allow in isolated pages only.
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.max(1, wanted) : 1;
  ort.env.logLevel = 'error';
  return { ort, threads: ort.env.wasm.numThreads };
}

function importRuntime(backend: Backend, url: string | null): Promise<typeof Ort> {
  if (url !== null) {
    const file = new URL(`ort.${backend}.bundle.min.mjs`, url).href;
    return import(/* @vite-ignore */ /* webpackIgnore: true */ file);
  }
  return backend === 'webgpu' ? import('onnxruntime-web/webgpu') : import('onnxruntime-web/wasm');
}

/** The part of WebGPU that is asked here. */
interface Gpu {
  requestAdapter(): Promise<{ readonly info?: { readonly isFallbackAdapter?: boolean } } | null>;
}

/** Why there is no WebGPU; null where there is. Software is slower than WebAssembly, but it will do where it is asked for. */
async function webGpuProblem(takesSoftware: boolean): Promise<string | null> {
  const { gpu } = navigator as { gpu?: Gpu };
  if (!gpu) {
    return globalThis.isSecureContext
      ? 'this browser has no WebGPU'
      : 'WebGPU needs https (or localhost), which this page is not served by';
  }
  const adapter = await gpu.requestAdapter().catch(() => null);
  if (!adapter) return 'this browser has WebGPU, but no graphics adapter for it';
  return adapter.info?.isFallbackAdapter && !takesSoftware
    ? 'the only WebGPU adapter computes in software'
    : null;
}
