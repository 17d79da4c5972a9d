import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

export default defineConfig({
  root: fileURLToPath(new URL('.', import.meta.url)),
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: {
    // A part of the package whose server shows it.
    outDir: '../patch-diffusion/dist/studio-page',
    emptyOutDir: true,
    // Images in style sheets as files: the pages load nothing but files.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: 'es2022',
    // The first ones that know light-dark().
    cssTarget: ['chrome123', 'firefox120', 'safari17.5'],
  },
});
