/**
 * Gets a libtorch where there is none: a `torch` wheel through pip, else the distribution's package.
 *
 * Of the wheel only libraries, headers and CMake files are unpacked, into `.libtorch/torch`, which appears
 * whole or not at all. With an NVIDIA GPU the CUDA libraries are needed too, so pip installs torch with its
 * dependencies into `.libtorch/`. An index that cannot be reached is noticed within seconds: no retries and short
 * time-outs. Only a download that had begun is tried again, with longer ones.
 */
import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../make-folder.js';
import { installByApt } from './apt.js';
import { findProgram, firstWritable, type Host, hasNvidiaGpu, removeAbandoned, storeDirs } from './host.js';
import { collect, type FetchOutcome, ISOLATED, lastError } from './processes.js';

/** The CPU build that is asked for by name; an index or a links folder that has it is preferred (it is smallest). */
const CPU_WHEEL = 'torch==2.13.0+cpu';

/** Unpacks what a build and a run need of a wheel. Arguments: wheel, folder. */
const UNPACK = `
import sys, zipfile
keep = ('torch/lib/', 'torch/include/', 'torch/share/', 'torch/.dylibs/', 'torch.libs/', 'torch/version.py')
drop = ('torch/lib/libtorch_python', 'torch/lib/libtorch_cuda', 'torch/lib/libc10_cuda', 'torch/lib/libshm')
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        licence = '.dist-info/' in name and ('LICENSE' in name or 'NOTICE' in name)
        if licence or (name.startswith(keep) and not name.startswith(drop)):
            wheel.extract(name, sys.argv[2])
`;

/** Tries pip, then the distribution; `report` says what failed. */
export async function fetchLibtorch(host: Host, log: (line: string) => void): Promise<FetchOutcome[]> {
  const outcomes = [await fetchByPip(host, log)];
  if (!outcomes[0].ok) {
    log(`  ${outcomes[0].report}`);
    outcomes.push(await installByApt(host, log));
  }
  return outcomes;
}

/** Downloads a wheel with pip and unpacks it into the store. */
export async function fetchByPip(host: Host, log: (line: string) => void): Promise<FetchOutcome> {
  const python = ['python3', 'python'].find((name) => findProgram(host, name));
  if (!python) return { ok: false, report: 'pip: no python3 in PATH' };
  if ((await collect(python, [ISOLATED, '-m', 'pip', '--version'], host.env)).code !== 0) {
    return {
      ok: false,
      report: `pip: ${python} has no pip module (Debian, Ubuntu: apt-get install python3-pip)`,
    };
  }
  const stores = storeDirs(host);
  const store = firstWritable(stores);
  if (!store) {
    return {
      ok: false,
      report:
        `pip: neither ${stores.join(' nor ')} can be written; ` +
        'make one of them writable, or set XDG_CACHE_HOME to a folder that is',
    };
  }
  const temporary = join(store, `.fetch-${process.pid}`);
  removeAbandoned(store);
  makeFolder(temporary);
  try {
    if (hasNvidiaGpu(host)) return await installWithCuda(host, python, store, temporary, log);
    log(
      'Getting libtorch: a torch wheel through pip (download about 190 MB for the CPU build; ' +
        'about 560 MB where the index offers only the general one), kept in ' +
        `${store} (about 0.5 GB) …`,
    );
    let refusal = '';
    for (const requirement of [CPU_WHEEL, 'torch']) {
      const download = ['download', '--no-deps', '--only-binary=:all:', '-d', temporary];
      let result = await pip(host, python, [...download, '--retries', '0', '--timeout', '10', requirement]);
      if (result.code !== 0 && /^\s*Downloading .*torch/m.test(result.output)) {
        log('  The download broke off; trying again with longer time-outs …');
        result = await pip(host, python, [...download, '--retries', '5', '--timeout', '60', requirement]);
      }
      if (result.code === 0) return await unpack(host, python, store, temporary, log);
      refusal = lastError(result.output);
    }
    return { ok: false, report: `pip: ${refusal}` };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

async function unpack(
  host: Host,
  python: string,
  store: string,
  temporary: string,
  log: (line: string) => void,
): Promise<FetchOutcome> {
  const wheel = readdirSync(temporary).find((name) => name.startsWith('torch-') && name.endsWith('.whl'));
  if (!wheel) return { ok: false, report: 'pip: reported success but left no torch wheel' };
  const megabytes = Math.round(statSync(join(temporary, wheel)).size / 1e6);
  log(`  Unpacking ${wheel} (${megabytes} MB) …`);
  const target = join(temporary, 'unpacked');
  const { code, output } = await collect(
    python,
    [ISOLATED, '-c', UNPACK, join(temporary, wheel), target],
    host.env,
  );
  if (code !== 0) return { ok: false, report: `unpacking ${wheel}: ${lastError(output)}` };
  moveIn(target, store);
  return { ok: true, report: `unpacked ${wheel}` };
}

/** The general wheel and the CUDA libraries that it needs, side by side, as pip lays them out. */
async function installWithCuda(
  host: Host,
  python: string,
  store: string,
  temporary: string,
  log: (line: string) => void,
): Promise<FetchOutcome> {
  log(
    `Getting libtorch for your NVIDIA GPU through pip: torch with its CUDA libraries (download about 3 GB, about 6 GB in ${store}) …`,
  );
  const target = join(temporary, 'site');
  const { code, output } = await pip(host, python, [
    'install',
    '--target',
    target,
    '--only-binary=:all:',
    '--timeout',
    '15',
    '--retries',
    '1',
    'torch',
  ]);
  if (code !== 0) return { ok: false, report: `pip: ${lastError(output)}` };
  moveIn(target, store);
  return { ok: true, report: 'installed torch with CUDA' };
}

/** Moves the parts into the store, `torch` last: its presence says that all is there. */
function moveIn(from: string, store: string): void {
  const names = readdirSync(from).sort((a, b) => Number(a === 'torch') - Number(b === 'torch'));
  for (const name of names) {
    rmSync(join(store, name), { recursive: true, force: true });
    renameSync(join(from, name), join(store, name));
  }
}

/** pip, its progress shown where a person watches. */
function pip(host: Host, python: string, args: string[]): Promise<{ code: number; output: string }> {
  const quiet = process.stderr.isTTY ? [] : ['--progress-bar', 'off'];
  const env = { ...host.env, PIP_DISABLE_PIP_VERSION_CHECK: '1', LC_ALL: 'C.UTF-8' };
  return collect(python, [ISOLATED, '-m', 'pip', ...args, ...quiet], env, process.stderr.isTTY);
}
