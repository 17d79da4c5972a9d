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
const compiled = compileTypeScript();
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
  const { status, error } = spawnSync(program, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
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

/** Runs tsc when a source differs from what was built last, judged by names and contents: a copy has new times. */
function compileTypeScript() {
  const stamp = sourcesStamp();
  const built = [
    'packages/torch/dist/index.js',
    'packages/patch-diffusion/dist/index.js',
    'benchmarks/dist/main.js',
  ];
  const upToDate = built.every((path) => existsSync(join(root, path)));
  if (upToDate && existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return true;
  const ok = run('Building TypeScript …', process.execPath, ['node_modules/typescript/bin/tsc', '-b']);
  if (ok) writeFileSync(stampFile, stamp);
  return ok;
}

function sourcesStamp() {
  const hash = createHash('sha256');
  const add = (path) => {
    const text = readFileSync(join(root, path), 'utf8');
    hash.update(JSON.stringify([path, text]));
  };
  const projects = ['packages', 'benchmarks']
    .flatMap((dir) =>
      dir === 'packages' ? readdirSync(join(root, dir)).map((name) => `packages/${name}`) : [dir],
    )
    .filter((dir) => existsSync(join(root, dir, 'tsconfig.json')));
  for (const path of ['tsconfig.base.json', 'tsconfig.json', 'package-lock.json']) add(path);
  for (const project of projects) {
    add(`${project}/tsconfig.json`);
    add(`${project}/package.json`);
    const src = existsSync(join(root, project, 'src')) ? `${project}/src` : project;
    for (const name of readdirSync(join(root, src), { recursive: true }).sort()) {
      if (/\.(ts|json)$/.test(name) && !/(^|\/)(node_modules|dist)\//.test(name)) add(`${src}/${name}`);
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
