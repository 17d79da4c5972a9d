/**
 * Does all of the set-up that is missing in this repository, and nothing when nothing is: npm packages,
 * TypeScript build, libtorch, native addon. Plain Node without dependencies, since it runs before `npm ci`.
 *
 *   node scripts/setup.mjs            what is missing
 *   node scripts/setup.mjs --fetch    also get the newest libtorch into .libtorch/ where another one is found
 *   node scripts/setup.mjs --no-torch without libtorch and addon: for the doctor, which reports what they lack
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const stampFile = join(root, 'node_modules', '.patch-diffusion-build');
const log = (line) => console.log(line);

process.on('uncaughtException', (error) => {
  // Messages of the file system (no access, a full disk) are complete; a stack trace would add nothing.
  fail(error.syscall ? `The set-up stopped: ${error.message}` : error.stack);
});
checkNode();
installPackages();
const compiled = build();
if (!process.argv.includes('--no-torch')) await setUpTorch();
if (!compiled) fail('The TypeScript build failed (see above).');

function fail(message) {
  console.error(message);
  process.exit(1);
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 17)) {
    fail(
      `Node 20.17 or newer is needed; this is ${process.version}. Install a newer one and run this again.`,
    );
  }
}

function run(what, program, args) {
  log(what);
  // onnxruntime-node brings what tests need; its script would fetch CUDA's libraries, some hundred MB more.
  const env = { ONNXRUNTIME_NODE_INSTALL: 'skip', ...process.env };
  const stdio = ['ignore', 'inherit', 'inherit'];
  const { status, error } = spawnSync(program, args, { cwd: root, env, stdio });
  if (error) console.error(`${program}: ${error.message}`);
  return status === 0;
}

/** npm's own record of what it installed is compared with the lock file; file times mean nothing after a checkout. */
function installPackages() {
  const missing = missingPackages();
  if (missing.length === 0) return;
  const some = missing.slice(0, 3).join(', ') + (missing.length > 3 ? ', …' : '');
  const what = `Installing ${missing.length} npm packages (${some}) …`;
  if (!run(what, 'npm', ['ci', '--include=dev', '--no-audit', '--no-fund', '--loglevel=error'])) {
    fail('npm ci failed (see above). Check that npm reaches its registry, then run this again.');
  }
}

function missingPackages() {
  const read = (path) => JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
  const wanted = read('package-lock.json');
  const installed = existsSync(join(root, 'node_modules/.package-lock.json'))
    ? read('node_modules/.package-lock.json')
    : {};
  return Object.entries(wanted)
    .filter(([path, entry]) => {
      if (!path.startsWith('node_modules/')) return false;
      if (entry.link) return !existsSync(join(root, path));
      if (entry.optional || entry.devOptional) return false; // for other platforms
      return installed[path]?.version !== entry.version;
    })
    .map(([path]) => path.slice('node_modules/'.length));
}

/** Builds when a source differs from what was built last, judged by names and contents: a copy has new times. */
function build() {
  const stamp = sourcesStamp();
  const built = [
    'packages/torch/dist/index.js',
    'packages/patch-diffusion/dist/index.js',
    'packages/browser/dist/web/worker.js',
    'packages/patch-diffusion/dist/studio-page/index.html',
    'benchmarks/dist/main.js',
    'reliability/dist/torture/main.js',
  ];
  const upToDate = built.every((path) => existsSync(join(root, path)));
  if (upToDate && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return true;
  const node = process.execPath;
  const ok =
    run('Building TypeScript …', node, ['node_modules/typescript/bin/tsc', '-b']) &&
    run('Bundling for browsers …', node, ['packages/browser/scripts/build.mjs']) &&
    run('Building the pages of the studio …', node, [
      ...['node_modules/vite/bin/vite.js', 'build', 'packages/studio', '--logLevel', 'warn'],
    ]);
  if (ok) writeFileSync(stampFile, stamp);
  return ok;
}

function sourcesStamp() {
  const hash = createHash('sha256');
  const add = (path) => {
    const text = readFileSync(join(root, path), 'utf8');
    hash.update(JSON.stringify([path, text]));
  };
  const projects = ['packages', 'benchmarks', 'reliability']
    .flatMap((dir) =>
      dir === 'packages' ? readdirSync(join(root, dir)).map((name) => `packages/${name}`) : [dir],
    )
    .filter((dir) => existsSync(join(root, dir, 'tsconfig.json')));
  for (const path of ['tsconfig.base.json', 'tsconfig.json', 'package-lock.json']) add(path);
  for (const project of projects) {
    add(`${project}/tsconfig.json`);
    add(`${project}/package.json`);
    for (const name of ['index.html', 'vite.config.ts', 'public/icon.svg']) {
      if (existsSync(join(root, project, name))) add(`${project}/${name}`);
    }
    const src = existsSync(join(root, project, 'src')) ? `${project}/src` : project;
    for (const name of readdirSync(join(root, src), { recursive: true }).sort()) {
      if (/\.(tsx?|json|css)$/.test(name) && !/(^|\/)(node_modules|dist)\//.test(name)) add(`${src}/${name}`);
    }
  }
  return hash.digest('hex');
}

async function setUpTorch() {
  const entry = join(root, 'packages/torch/dist/setup/index.js');
  if (!existsSync(entry)) fail('The TypeScript build left no packages/torch/dist (see above).');
  const { setup, SetupError } = await import(pathToFileURL(entry).href);
  try {
    const { libtorch } = await setup({ log, fetch: process.argv.includes('--fetch') });
    log(`Set-up is complete: libtorch ${libtorch.version} (${libtorch.origin}: ${libtorch.root}).`);
  } catch (error) {
    if (error instanceof SetupError) fail(error.message);
    throw error;
  }
}
