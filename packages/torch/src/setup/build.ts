/**
 * Compiles the addon: one compiler process per C++ file, side by side, then one link. No CMake needed.
 *
 * Objects are kept under the hash of what went into them, so that after a change only the changed file is
 * compiled. A finished build appears whole (written to a temporary folder, then renamed).
 */
import { spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { availableParallelism, freemem } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { makeFolder } from '../make-folder.js';
import { ADDON_FILE, buildDirs } from './addon.js';
import { SetupError } from './errors.js';
import { findProgram, firstWritable, type Host, removeAbandoned, setupCommand } from './host.js';
import type { Libtorch } from './libtorch.js';
import { digest, makeRecipe, type Recipe } from './recipe.js';
import { compilerRemedy } from './remedies.js';

/** Memory that compiling one file with libtorch's headers takes, as measured with g++ 12 (rounded up). */
const BYTES_PER_COMPILE = 1.5 * 2 ** 30;

/** Builds the addon and returns its path. Progress goes to `log`, a line at a time. */
export async function buildAddon(
  host: Host,
  libtorch: Libtorch,
  log: (line: string) => void,
): Promise<string> {
  const compiler = findCompiler(host);
  const dir = writableBuildDir(host);
  const recipe = makeRecipe(host, libtorch, dir);
  const objects = objectsDir(dir, recipe);
  const temporary = join(dir, `.${recipe.key}-${process.pid}`);
  const logFile = join(dir, 'compile.log');
  makeFolder(objects);
  removeAbandoned(dir);
  removeAbandoned(objects);
  makeFolder(temporary);
  writeFileSync(join(objects, 'libtorch'), recipe.libtorch);
  writeFileSync(logFile, '');
  try {
    const started = Date.now();
    const jobs = Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / BYTES_PER_COMPILE)));
    log(
      `Compiling the native addon with ${basename(compiler)} for libtorch ${libtorch.version}: ` +
        `${recipe.sources.length} C++ files, ${jobs} at a time (a minute or two in all) …`,
    );
    const made = await compileAll(compiler, recipe, objects, jobs, logFile, log);
    const addon = join(temporary, ADDON_FILE);
    await run(compiler, ['-o', addon, ...made, ...recipe.linkFlags], logFile, 'Linking the addon');
    const problem = loadProblem(addon);
    if (problem) {
      throw new SetupError(
        'ADDON_UNUSABLE',
        `The addon was built but does not load: ${problem}. The libtorch in ${libtorch.root} may be damaged or made ` +
          `for another system: replace it, or set LIBTORCH to another one. Then run: ${setupCommand(host)}`,
      );
    }
    writeFileSync(
      join(temporary, 'build.json'),
      `${JSON.stringify({ libtorch: recipe.libtorch, version: libtorch.version }, null, 2)}\n`,
    );
    const final = join(dir, recipe.key);
    rmSync(final, { recursive: true, force: true });
    renameSync(temporary, final);
    removeStale(dir, recipe, objects, made);
    log(`Built the addon in ${((Date.now() - started) / 1000).toFixed(0)} s.`);
    return join(final, ADDON_FILE);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** `$CXX`, or the first C++ compiler in `PATH`. */
export function findCompiler(host: Host): string {
  const named = host.env.CXX?.trim();
  if (named) {
    const found = findProgram(host, named);
    if (found) return found;
    throw new SetupError(
      'COMPILER_NOT_FOUND',
      `CXX is set to '${named}', which is no program in PATH. Set it to a C++ compiler, or unset it.`,
    );
  }
  const found = ['c++', 'g++', 'clang++'].map((name) => findProgram(host, name)).find(Boolean);
  if (found) return found;
  throw new SetupError(
    'COMPILER_NOT_FOUND',
    `The native addon needs a C++ compiler, and there is none in PATH (tried: c++, g++, clang++). ${compilerRemedy(host)}`,
  );
}

const objectsDir = (dir: string, recipe: Recipe): string =>
  join(dir, 'objects', recipe.objectSalt.slice(0, 12));

function writableBuildDir(host: Host): string {
  const dirs = buildDirs(host);
  const dir = firstWritable(dirs);
  if (dir) return dir;
  throw new SetupError(
    'FILE_SYSTEM',
    `The addon can be written to none of: ${dirs.join(', ')}. Make one of them writable, or set XDG_CACHE_HOME to a folder that is.`,
  );
}

/** Compiles what is not there yet; returns the objects in the order of the sources. */
async function compileAll(
  compiler: string,
  recipe: Recipe,
  objects: string,
  jobs: number,
  logFile: string,
  log: (line: string) => void,
): Promise<string[]> {
  const targets = recipe.sources.map((source) => {
    const hash = digest([readFileSync(source, 'utf8')]).slice(0, 12);
    return { source, object: join(objects, `${basename(source, '.cc')}-${hash}.o`) };
  });
  const waiting = targets.filter(({ object }) => !existsSync(object));
  const abort = new AbortController();
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const { source, object } = next;
      const partial = `${object}.${process.pid}`;
      const started = Date.now();
      await run(
        compiler,
        ['-c', source, '-o', partial, ...recipe.compileFlags],
        logFile,
        `Compiling ${basename(source)}`,
        abort.signal,
      );
      renameSync(partial, object);
      log(`  ${basename(source)} (${((Date.now() - started) / 1000).toFixed(0)} s)`);
    }
  };
  try {
    await Promise.all(Array.from({ length: jobs }, work));
  } catch (error) {
    abort.abort();
    throw error;
  }
  return targets.map(({ object }) => object);
}

/** Runs the compiler; what it prints goes to the log file, a summary of a failure into the error. */
function run(
  program: string,
  args: string[],
  logFile: string,
  what: string,
  signal?: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], signal });
    let output = '';
    const take = (chunk: Buffer) => {
      output += chunk.toString();
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', (error) =>
      reject(new SetupError('COMPILE_FAILED', `${what} failed: ${error.message}`)),
    );
    child.on('close', (code) => {
      try {
        appendFileSync(logFile, `$ ${program} ${args.join(' ')}\n${output}`);
      } catch (error) {
        return reject(error);
      }
      if (code === 0) return resolve();
      reject(
        new SetupError('COMPILE_FAILED', `${what} failed:\n${summary(output)}\nThe whole log: ${logFile}`),
      );
    });
  });
}

/** The first lines that name an error, or the last ones where none does. */
function summary(output: string): string {
  const lines = output.trimEnd().split('\n');
  const errors = lines.filter((line) => /error|undefined reference|cannot find/i.test(line));
  return (errors.length ? errors.slice(0, 8) : lines.slice(-8))
    .map((line) => `  ${line.slice(0, 300)}`)
    .join('\n');
}

/**
 * Loads an addon in a process of its own: a library that is missing shows here, not in a user's run.
 *
 * @returns Why it does not load, or undefined if it does.
 */
export function loadProblem(addon: string): string | undefined {
  const script = 'process.dlopen({ exports: {} }, process.argv[1])';
  const { status, stderr, signal } = spawnSync(process.execPath, ['-e', script, addon], { encoding: 'utf8' });
  if (status === 0) return undefined;
  return /^Error: (.*)$/m.exec(stderr)?.[1] ?? (stderr.trim() || `it was ended by ${signal}`);
}

/** Removes a build and the objects that it was linked from: those of another system may not link on this one. */
export function discardBuild(host: Host, libtorch: Libtorch): void {
  for (const dir of buildDirs(host)) {
    const recipe = makeRecipe(host, libtorch, dir);
    for (const path of [join(dir, recipe.key), objectsDir(dir, recipe)])
      rmSync(path, { recursive: true, force: true });
  }
}

/** Removes older builds for the same libtorch, and objects that this build did not use. */
function removeStale(dir: string, recipe: Recipe, objects: string, made: string[]): void {
  for (const name of readdirSync(dir)) {
    if (name === recipe.key || !/^[0-9a-f]{12}$/.test(name)) continue;
    try {
      const about = JSON.parse(readFileSync(join(dir, name, 'build.json'), 'utf8')) as { libtorch?: string };
      if (about.libtorch === recipe.libtorch) rmSync(join(dir, name), { recursive: true, force: true });
    } catch {
      // not a finished build: another process may be writing it
    }
  }
  const used = new Set(made.map((path) => basename(path)));
  for (const name of readdirSync(objects)) {
    if (name.endsWith('.o') && !used.has(name)) rmSync(join(objects, name));
  }
  for (const name of readdirSync(dirname(objects))) {
    const other = join(dirname(objects), name);
    const owner = join(other, 'libtorch');
    if (other !== objects && existsSync(owner) && readFileSync(owner, 'utf8') === recipe.libtorch) {
      rmSync(other, { recursive: true, force: true });
    }
  }
}
