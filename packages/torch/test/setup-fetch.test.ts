import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { getuid } from 'node:process';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { installByApt } from '../src/setup/apt.js';
import { fetchByPip } from '../src/setup/fetch.js';
import type { Host } from '../src/setup/host.js';
import { setup } from '../src/setup/index.js';
import { locateLibtorch } from '../src/setup/locate.js';
import { libtorchRemedies } from '../src/setup/remedies.js';
import { dropTemporary, fakeHost, fakeLibtorch, makeTemporary, put } from './setup-machine.js';

const python = spawnSync('python3', ['-I', '-c', 'import sys, pip; print(sys.executable)'], {
  encoding: 'utf8',
}).stdout?.trim();

let root: string;
beforeEach(() => {
  root = makeTemporary();
});
afterEach(() => dropTemporary(root));

/** A machine on which python3 is the only program, with a pip that knows nothing but `env`. */
function hostWithPip(env: Record<string, string>): Host {
  mkdirSync(join(root, 'bin'), { recursive: true });
  symlinkSync(python!, join(root, 'bin/python3'));
  return fakeHost(root, { PIP_CONFIG_FILE: '/dev/null', HOME: root, ...env });
}

/** A wheel with the parts that matter and some that must stay out. */
function makeWheel(dir: string): void {
  const script = `
import sys, zipfile
info = 'torch-2.13.0+cpu.dist-info/'
files = {
  'torch/__init__.py': '', 'torch/version.py': "__version__ = '2.13.0+cpu'\\n",
  'torch/lib/libtorch_cpu.so': 'x', 'torch/lib/libc10.so': 'x', 'torch/lib/libtorch_python.so': 'x',
  'torch/include/torch/csrc/api/include/torch/version.h': '#define TORCH_VERSION "2.13.0"',
  'torch/share/cmake/Torch/TorchConfig.cmake': '', 'torch/nn/modules/conv.py': '', 'torch.libs/libgomp.so': 'x',
  info + 'METADATA': 'Metadata-Version: 2.1\\nName: torch\\nVersion: 2.13.0+cpu\\n',
  info + 'WHEEL': 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: false\\nTag: py3-none-any\\n',
  info + 'licenses/LICENSE': 'licence', info + 'RECORD': '',
}
with zipfile.ZipFile(sys.argv[1] + '/torch-2.13.0+cpu-py3-none-any.whl', 'w') as wheel:
  for name, text in files.items(): wheel.writestr(name, text)
`;
  mkdirSync(dir, { recursive: true });
  const { status, stderr } = spawnSync(python!, ['-I', '-c', script, dir], { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
}

describe.skipIf(!python)('fetchByPip (skipped where python3 has no pip)', () => {
  it('unpacks libraries, headers and CMake files of a wheel into .libtorch/torch, and nothing else', async () => {
    makeWheel(join(root, 'wheels'));
    const host = hostWithPip({ PIP_NO_INDEX: '1', PIP_FIND_LINKS: join(root, 'wheels') });
    const said: string[] = [];
    const outcome = await fetchByPip(host, (line) => said.push(line));
    expect(outcome).toEqual({ ok: true, report: 'unpacked torch-2.13.0+cpu-py3-none-any.whl' });
    const store = join(root, 'project/.libtorch');
    expect(readdirSync(store).sort()).toEqual(['torch', 'torch-2.13.0+cpu.dist-info', 'torch.libs']);
    expect(readdirSync(join(store, 'torch')).sort()).toEqual(['include', 'lib', 'share', 'version.py']);
    expect(readdirSync(join(store, 'torch/lib')).sort()).toEqual(['libc10.so', 'libtorch_cpu.so']);
    expect(said[0]).toMatch(/190 MB/);
    expect(locateLibtorch(host).libtorch).toMatchObject({ origin: 'project', version: '2.13.0+cpu' });
  });

  it.each([
    ['no index', { PIP_NO_INDEX: '1' }],
    ['an unreachable index', { PIP_INDEX_URL: 'http://127.0.0.1:9/simple', PIP_DEFAULT_TIMEOUT: '180' }],
  ])('%s is found out in seconds, and the message names what was tried and the command', async (_, env) => {
    const host = hostWithPip(env);
    const started = Date.now();
    const error = await setup({ host }).then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(Date.now() - started).toBeLessThan(30_000);
    expect(error).toMatchObject({ name: 'SetupError', code: 'LIBTORCH_NOT_FOUND' });
    expect(error?.message).toMatch(/getting one: pip: it finds no torch/);
    expect(error?.message).toMatch(/getting one: the distribution's package: no apt-get on this system/);
    expect(error?.message).toMatch(/To fix this, run one of:\n.*npm run setup/);
    expect(existsSync(join(root, 'project/.libtorch/torch'))).toBe(false);
  });

  it('runs nothing that lies in the current folder, and does not take a torch there for an installed one', async () => {
    const here = join(root, 'here');
    for (const name of ['pip.py', 'zipfile.py', 'site.py', 'importlib/__init__.py', 'torch/__init__.py'])
      put(
        join(here, name),
        `open(${JSON.stringify(join(root, 'executed'))}, 'w')\nraise SystemExit('executed')\n`,
      );
    fakeLibtorch(join(here, 'torch'), '2.13.0');
    makeWheel(join(root, 'wheels'));
    const env = { PIP_NO_INDEX: '1', PIP_FIND_LINKS: join(root, 'wheels'), PYTHONPATH: here };
    const host = hostWithPip(env);
    const before = process.cwd();
    process.chdir(here);
    try {
      expect(await fetchByPip(host, () => undefined)).toMatchObject({ ok: true });
      const found = locateLibtorch({ ...host, env: { ...host.env, LIBTORCH_USE_PYTORCH: '1' } });
      expect(found.tried.filter(({ path }) => path?.startsWith(here))).toEqual([]);
    } finally {
      process.chdir(before);
    }
    expect(existsSync(join(root, 'executed'))).toBe(false);
  });

  it('names the places where nothing can be written', async () => {
    const host = hostWithPip({ PIP_NO_INDEX: '1' });
    put(join(root, 'project/.libtorch'));
    put(join(root, 'cache'));
    const { ok, report } = await fetchByPip(host, () => undefined);
    expect(ok).toBe(false);
    expect(report).toMatch(/neither .*\.libtorch nor .*libtorch can be written; make one of them writable/);
  });
});

it('without python the report says so', async () => {
  const outcome = await fetchByPip(fakeHost(root), () => undefined);
  expect(outcome).toEqual({ ok: false, report: 'pip: no python3 in PATH' });
});

describe('setup({ fetch: true })', () => {
  const said = async (env: Record<string, string> = {}) => {
    const lines: string[] = [];
    // The made-up libtorch cannot be built against; what counts here is said before.
    await setup({ host: fakeHost(root, env), fetch: true, log: (line) => lines.push(line) }).catch(
      () => undefined,
    );
    return lines[0];
  };

  it("goes for a download past the system's libtorch", async () => {
    fakeLibtorch(join(root, 'system/usr'), '2.1.0', 'debian');
    expect(await said()).toMatch(/pip: no python3 in PATH; continuing with what is there/);
  });

  it('downloads nothing where a variable or an environment would be taken before it, and says so', async () => {
    const named = fakeLibtorch(join(root, 'named'), '2.9.0');
    expect(await said({ LIBTORCH: named })).toMatch(
      /^Nothing is downloaded: LIBTORCH is set and comes first/,
    );
    const venv = join(root, 'venv');
    fakeLibtorch(join(venv, 'lib/python3.11/site-packages/torch'), '2.7.0');
    expect(await said({ VIRTUAL_ENV: venv })).toMatch(/the active virtual environment comes first/);
  });

  it.each(['project/.libtorch/torch', 'cache/libtorch/torch'])('knows the copy in %s', async (place) => {
    fakeLibtorch(join(root, place), '2.5.0');
    expect(await said()).toMatch(
      /Nothing is downloaded: .*holds libtorch 2\.5\.0 already \(remove that folder/,
    );
  });
});

describe("the distribution's package", () => {
  /** A Debian whose apt knows one version of libtorch-dev and writes down what it is asked for. */
  function debianWith(candidate: string): Host {
    put(join(root, 'system/etc/os-release'), 'ID=debian\n');
    put(join(root, 'bin/apt-cache'), `#!/bin/sh\necho 'libtorch-dev:\n  Candidate: ${candidate}'\n`);
    put(join(root, 'bin/apt-get'), `#!/bin/sh\necho "$@" >>'${root}/asked'\n`);
    for (const name of ['apt-cache', 'apt-get']) chmodSync(join(root, 'bin', name), 0o755);
    return fakeHost(root);
  }

  it('is not advised where it is too old', () => {
    expect(libtorchRemedies(debianWith('1.8.1-4+b1'))).not.toContain('libtorch-dev');
    expect(libtorchRemedies(debianWith('1.13.1+dfsg-4'))).toContain('sudo apt-get install libtorch-dev');
    expect(libtorchRemedies(debianWith('(none)'))).toContain('sudo apt-get install libtorch-dev');
  });

  it.skipIf(getuid?.() !== 0)('is not installed where it is too old (as root)', async () => {
    expect(await installByApt(debianWith('1.8.1-4+b1'), () => undefined)).toEqual({
      ok: false,
      report: "the distribution's package: libtorch-dev 1.8.1-4+b1 is too old (1.13 or newer is needed)",
    });
    expect(existsSync(join(root, 'asked'))).toBe(false);
    expect(await installByApt(debianWith('2.6.0+dfsg-7'), () => undefined)).toMatchObject({ ok: true });
  });
});
