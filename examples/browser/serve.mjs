/**
 * Serves a model and the page beside this file, on this machine only:
 *
 *   node examples/browser/serve.mjs model.onnx [model-decoder.onnx] [--port 8080]
 *
 * Any server of static files will do. The headers are worth having: the first two allow WebAssembly several threads, the
 * third forbids scripts from elsewhere.
 */
import { createReadStream, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, extname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const browserPackage = resolve(here, '../../packages/browser');
const onnxruntime = dirname(createRequire(join(browserPackage, 'package.json')).resolve('onnxruntime-web'));

const HEADERS = {
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'content-security-policy': "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'",
  'cache-control': 'no-cache',
};

const TYPES = {
  ...{ '.svg': 'image/svg+xml' },
  ...{ '.html': 'text/html; charset=utf-8', '.css': 'text/css' },
  ...{ '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' },
};

/** Addresses below `/npm/` are laid out as in node_modules; the page's own are its folder's. */
const FOLDERS = {
  '/npm/@patch-diffusion/browser/dist/': join(browserPackage, 'dist'),
  '/npm/onnxruntime-web/dist/': onnxruntime,
  '/': here,
};

/** @param models addresses such as `/model.onnx` with their files */
export function createPageServer(models) {
  return createServer((request, response) => {
    const file = fileOf(pathOf(request.url), models);
    const info = file && statSync(file, { throwIfNoEntry: false });
    if (!info?.isFile()) {
      response.writeHead(404, HEADERS).end('There is no such file.');
      return;
    }
    const type = TYPES[extname(file)] ?? 'application/octet-stream';
    response.writeHead(200, { ...HEADERS, 'content-type': type, 'content-length': info.size });
    createReadStream(file).pipe(response);
  });
}

/** The path of an address; an empty one where it makes no sense. */
function pathOf(address) {
  try {
    return decodeURIComponent(new URL(address, 'http://localhost').pathname);
  } catch {
    return '';
  }
}

function fileOf(path, models) {
  if (!path.startsWith('/') || path.includes('\0')) return null;
  if (models[path]) return models[path];
  const [prefix, folder] = Object.entries(FOLDERS).find(([start]) => path.startsWith(start));
  const file = resolve(folder, path === '/' ? 'index.html' : path.slice(prefix.length));
  return file.startsWith(folder + sep) ? file : null;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { port: { type: 'string', default: '8080' } },
  });
  const [model, decoder] = positionals;
  if (!model || !statSync(model, { throwIfNoEntry: false })?.isFile()) {
    console.error(
      `${model ?? 'model.onnx'} is not there. Write it with: npx patch-diffusion export --run RUN --format onnx --out model.onnx`,
    );
    process.exit(2);
  }
  const models = { '/model.onnx': model, ...(decoder ? { '/model-decoder.onnx': decoder } : {}) };
  const server = createPageServer(models);
  let port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    console.error(`--port ${values.port}: it must be a whole number from 0 to 65535.`);
    process.exit(2);
  }
  server.on('error', (error) => {
    if (error.code === 'EADDRINUSE' && port < 65535) {
      console.log(`Port ${port} is in use.`);
      port++;
      server.listen(port, 'localhost');
    } else {
      console.error(`Port ${port}: ${error.message}. Choose another with --port.`);
      process.exit(1);
    }
  });
  server.on('listening', () => {
    console.log(`Open http://localhost:${server.address().port} (Ctrl-C stops)`);
  });
  server.listen(port, 'localhost');
}
