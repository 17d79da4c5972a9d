import { defineConfig } from 'vite';

// With these two WebAssembly may use several threads; a server of the built page should send them, too.
const headers = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

export default defineConfig({
  base: './',
  server: { headers },
  preview: { headers },
  // The package's worker imports onnxruntime-web where it needs it.
  worker: { format: 'es' },
  // While developing: both find their files by their own addresses, which bundling beforehand would change.
  optimizeDeps: { exclude: ['@patch-diffusion/browser', 'onnxruntime-web'] },
});
