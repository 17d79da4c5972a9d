/**
 * Bundles the package: all that it imports is inside, but for onnxruntime-web. tsc has written the types before.
 *
 *   dist/      for bundlers: onnxruntime-web is imported by its name
 *   dist/web/  for pages without a bundler: it is imported from the folder beside this package's
 */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { rolldown } from 'rolldown';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const RUNTIME = /^onnxruntime-web\/(webgpu|wasm)$/;
/** From dist/web/ in node_modules/@patch-diffusion/browser, or the same on a server of npm packages. */
const BESIDE = '../../../../onnxruntime-web/dist/';

export async function buildBrowserPackage() {
  await bundle('dist', { minify: false, resolve: (name) => name });
  await bundle('dist/web', {
    minify: true,
    resolve: (name) => `${BESIDE}ort.${name.split('/')[1]}.bundle.min.mjs`,
  });
}

/** One bundle each for the page and for the worker; they share little. */
async function bundle(folder, { minify, resolve }) {
  for (const name of ['index', 'worker']) {
    const bundler = await rolldown({
      input: { [name]: join(root, `src/${name}.ts`) },
      platform: 'browser',
      // What it warns of is checked by tsc.
      logLevel: 'silent',
      plugins: [
        {
          name: 'runtime',
          resolveId: (id) => (RUNTIME.test(id) ? { id: resolve(id), external: true } : null),
        },
      ],
    });
    await bundler.write({
      dir: join(root, folder),
      format: 'esm',
      codeSplitting: false,
      minify,
    });
    await bundler.close();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildBrowserPackage();
