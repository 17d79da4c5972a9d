import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { locateAddon } from '../src/setup/addon.js';
import { projectOf, setupCommand, userCacheDir } from '../src/setup/host.js';
import { compareVersions, inspectLibtorch, type Libtorch } from '../src/setup/libtorch.js';
import { type AskPython, locateLibtorch } from '../src/setup/locate.js';
import { libtorchRemedies } from '../src/setup/remedies.js';
import { dropTemporary, fakeHost, fakeLibtorch, makeTemporary, put } from './setup-machine.js';

let root: string;
beforeEach(() => {
  root = makeTemporary();
});
afterEach(() => dropTemporary(root));

describe('locateLibtorch', () => {
  it('keeps the documented order: each place wins over all that follow', () => {
    const python = fakeLibtorch(join(root, 'python/torch'), '2.8.0');
    const askPython: AskPython = () => ({ path: python, result: 'found' });
    const venv = join(root, 'venv');
    const conda = join(root, 'conda');
    const named = fakeLibtorch(join(root, 'named'), '2.9.0');
    fakeLibtorch(join(venv, 'lib/python3.11/site-packages/torch'), '2.7.0');
    fakeLibtorch(join(conda, 'lib/python3.12/site-packages/torch'), '2.6.0');
    fakeLibtorch(join(root, 'project/.libtorch/torch'), '2.5.0+cpu');
    fakeLibtorch(join(root, 'cache/libtorch/torch'), '2.4.0');
    put(join(root, 'bin/python3'));
    fakeLibtorch(join(root, 'lib/python3.11/site-packages/torch'), '2.3.0');
    fakeLibtorch(join(root, 'system/usr'), '1.13.0', 'debian');
    fakeLibtorch(join(root, 'system/usr/local/lib/python3.11/dist-packages/torch'), '2.2.0');
    const env: Record<string, string> = {
      LIBTORCH: named,
      LIBTORCH_USE_PYTORCH: '1',
      VIRTUAL_ENV: venv,
      CONDA_PREFIX: conda,
    };
    const seen: string[] = [];
    const look = () => {
      const { libtorch } = locateLibtorch(fakeHost(root, env), askPython);
      seen.push(libtorch ? `${libtorch.origin} ${libtorch.version}` : 'nothing');
    };
    for (const name of ['LIBTORCH', 'LIBTORCH_USE_PYTORCH', 'VIRTUAL_ENV', 'CONDA_PREFIX']) {
      look();
      delete env[name];
    }
    for (const place of ['project/.libtorch', 'cache/libtorch', 'lib', 'system/usr/include', 'system']) {
      look();
      dropTemporary(join(root, place));
    }
    look();
    expect(seen).toEqual([
      'LIBTORCH 2.9.0',
      'LIBTORCH_USE_PYTORCH 2.8.0',
      'virtual environment 2.7.0',
      'conda environment 2.6.0',
      'project 2.5.0+cpu',
      'user cache 2.4.0',
      'python3 2.3.0',
      'system 1.13.0',
      'system 2.2.0',
      'nothing',
    ]);
  });

  it('a wrong LIBTORCH is an error, and nothing else is tried', () => {
    fakeLibtorch(join(root, 'system/usr'), '2.1.0', 'debian');
    const search = locateLibtorch(fakeHost(root, { LIBTORCH: join(root, 'nowhere') }));
    expect(search.libtorch).toBeUndefined();
    expect(search.wrongVariable).toBe('LIBTORCH');
    expect(search.tried).toEqual([
      { what: 'LIBTORCH', path: join(root, 'nowhere'), result: 'no such folder' },
    ]);
  });

  it('LIBTORCH_USE_PYTORCH=1 without a torch is an error; other values are ignored', () => {
    fakeLibtorch(join(root, 'system/usr'), '2.1.0', 'debian');
    const noTorch: AskPython = () => ({ result: 'python3 has no torch' });
    const asked = locateLibtorch(fakeHost(root, { LIBTORCH_USE_PYTORCH: '1' }), noTorch);
    expect(asked.wrongVariable).toBe('LIBTORCH_USE_PYTORCH');
    expect(locateLibtorch(fakeHost(root, { LIBTORCH_USE_PYTORCH: '0' }), noTorch).libtorch?.origin).toBe(
      'system',
    );
  });

  it("finds the torch of PATH's python3 by its path: a virtual environment's, or that of the link's target", () => {
    put(join(root, 'opt/bin/python3.12'));
    fakeLibtorch(join(root, 'opt/lib64/python3.12/site-packages/torch'), '2.4.0');
    mkdirSync(join(root, 'bin'));
    symlinkSync(join(root, 'opt/bin/python3.12'), join(root, 'bin/python3'));
    expect(locateLibtorch(fakeHost(root)).libtorch).toMatchObject({ origin: 'python3', version: '2.4.0' });
    fakeLibtorch(join(root, 'lib/python3.12/site-packages/torch'), '2.5.0');
    expect(locateLibtorch(fakeHost(root)).libtorch?.version).toBe('2.5.0');
  });

  it('passes over what is too old and says so', () => {
    const venv = join(root, 'venv');
    fakeLibtorch(join(venv, 'lib/python3.9/site-packages/torch'), '1.12.1');
    fakeLibtorch(join(root, 'project/.libtorch/torch'), '2.13.0+cpu');
    const search = locateLibtorch(fakeHost(root, { VIRTUAL_ENV: venv }));
    expect(search.libtorch?.version).toBe('2.13.0+cpu');
    expect(search.tooOld).toEqual(['1.12.1']);
    expect(search.tried.map(({ result }) => result)).toContain(
      'version 1.12.1 is too old (1.13 or newer is needed)',
    );
  });

  it("finds Homebrew's on macOS and an archive unpacked into .libtorch itself", () => {
    const brew = join(root, 'system/opt/homebrew/opt/pytorch');
    put(join(brew, 'include/torch/csrc/api/include/torch/version.h'), '#define TORCH_VERSION "2.5.1"\n');
    for (const name of ['torch_cpu', 'c10']) put(join(brew, `lib/lib${name}.dylib`));
    expect(locateLibtorch(fakeHost(root, {}, { platform: 'darwin' })).libtorch?.version).toBe('2.5.1');
    fakeLibtorch(join(root, 'project/.libtorch'), '2.2.0');
    expect(locateLibtorch(fakeHost(root)).libtorch).toMatchObject({ origin: 'project', version: '2.2.0' });
  });
});

describe('inspectLibtorch', () => {
  const ok = (path: string): Libtorch => {
    const seen = inspectLibtorch(path);
    if ('problem' in seen) throw new Error(seen.problem);
    return seen;
  };

  it('reads the most exact version: version.py, then CMake, then the headers', () => {
    const dir = fakeLibtorch(join(root, 'a'), '2.13.0+cpu');
    expect(ok(dir).version).toBe('2.13.0+cpu');
    dropTemporary(join(dir, 'version.py'));
    put(join(dir, 'share/cmake/Torch/TorchConfigVersion.cmake'), 'set(PACKAGE_VERSION "2.13.1")\n');
    expect(ok(dir).version).toBe('2.13.1');
    dropTemporary(join(dir, 'share'));
    expect(ok(dir).version).toBe('2.13.0');
  });

  it('knows headers that moved (2.10 and later), the old ABI, the CUDA build', () => {
    const dir = fakeLibtorch(join(root, 'a'), '2.13.0', 'debian', ['torch_cuda']);
    put(
      join(dir, 'include/torch/csrc/api/include/torch/version.h'),
      '#include <torch/headeronly/version.h>\n',
    );
    put(join(dir, 'include/torch/headeronly/version.h'), '#define TORCH_VERSION \\\n  "2.13.0"\n');
    put(
      join(dir, 'lib/x86_64-linux-gnu/cmake/Torch/TorchConfig.cmake'),
      'set(TORCH_CXX_FLAGS "-D_GLIBCXX_USE_CXX11_ABI=0")\n',
    );
    expect(ok(dir)).toMatchObject({ version: '2.13.0', cxx11Abi: false, cuda: true });
    expect(ok(fakeLibtorch(join(root, 'b'), '2.0.0'))).toMatchObject({ cxx11Abi: true, cuda: false });
  });

  it('says what is missing', () => {
    const dir = fakeLibtorch(join(root, 'a'), '2.0.0');
    dropTemporary(join(dir, 'include'));
    expect(inspectLibtorch(dir)).toEqual({ problem: 'libraries, but no headers (include/torch)' });
    const other = fakeLibtorch(join(root, 'b'), '2.0.0');
    dropTemporary(join(other, 'lib'));
    expect(inspectLibtorch(other)).toEqual({ problem: 'headers, but no libtorch_cpu library' });
  });

  it('resolves links, so that one libtorch has one build', () => {
    const dir = fakeLibtorch(join(root, 'a'), '2.0.0');
    symlinkSync(dir, join(root, 'link'));
    expect(ok(join(root, 'link')).root).toBe(ok(dir).root);
  });

  it('orders versions by their numbers, whatever the build is called', () => {
    const version = fc.tuple(fc.nat(20), fc.nat(20), fc.nat(20));
    fc.assert(
      fc.property(version, version, fc.constantFrom('', '+cpu', '+cu128', 'a0+git1f2'), (a, b, tag) => {
        const expected = Math.sign(a[0] - b[0] || a[1] - b[1] || a[2] - b[2]);
        expect(Math.sign(compareVersions(a.join('.') + tag, b.join('.')))).toBe(expected);
      }),
    );
    expect(compareVersions('1.13', '1.13.0')).toBe(0);
  });
});

describe('where things lie', () => {
  it('an installed package belongs to the project that holds node_modules', () => {
    expect(projectOf('/p/node_modules/@patch-diffusion/torch')).toEqual({
      projectDir: '/p',
      installed: true,
    });
    const pnpm = '/p/node_modules/.pnpm/x@1/node_modules/@patch-diffusion/torch';
    expect(projectOf(pnpm)).toEqual({ projectDir: '/p', installed: true });
    expect(projectOf('/repo/packages/torch')).toEqual({ projectDir: '/repo', installed: false });
  });

  it('the cache follows the platform', () => {
    expect(userCacheDir({ XDG_CACHE_HOME: '/x' }, 'linux', '/h')).toBe('/x/patch-diffusion');
    expect(userCacheDir({}, 'linux', '/h')).toBe('/h/.cache/patch-diffusion');
    expect(userCacheDir({}, 'darwin', '/h')).toBe('/h/Library/Caches/patch-diffusion');
  });
});

describe('messages', () => {
  it('a missing libtorch: all places tried, and the command', () => {
    mkdirSync(join(root, 'project/node_modules/patch-diffusion'), { recursive: true });
    const host = fakeHost(root, {}, { installed: true });
    expect(() => locateAddon(host)).toThrow(
      /Tried, in this order:\n {2}LIBTORCH: not set\n[\s\S]*the system's \(.*usr\): [\s\S]*npx patch-diffusion setup/,
    );
    expect(() => locateAddon(host)).toThrow(
      expect.objectContaining({ code: 'LIBTORCH_NOT_FOUND', exitCode: 1 }),
    );
  });

  it('only a too old one', () => {
    fakeLibtorch(join(root, 'system/usr'), '1.8.0', 'debian');
    expect(() => locateAddon(fakeHost(root))).toThrow(expect.objectContaining({ code: 'LIBTORCH_TOO_OLD' }));
  });

  it.each([
    ['ID=ubuntu\nID_LIKE=debian\n', 'sudo apt-get install libtorch-dev && npm run setup'],
    ['ID=fedora\n', 'sudo dnf install python3-torch-devel && npm run setup'],
    ['ID="manjaro"\nID_LIKE="arch"\n', 'sudo pacman -S python-pytorch && npm run setup'],
    ['ID=nixos\n', 'pip install --target'],
  ])('the remedy fits the distribution: %j', (release, command) => {
    put(join(root, 'system/etc/os-release'), release);
    expect(libtorchRemedies(fakeHost(root))).toContain(command);
  });

  it('every remedy holds for the commands that follow', () => {
    const remedy = libtorchRemedies(fakeHost(root));
    expect(remedy).toContain(
      `pip install --target '${join(root, 'project/.libtorch')}' torch && npm run setup`,
    );
    expect(remedy).toContain('export LIBTORCH=/path/to/libtorch && npm run setup');
    expect(remedy).not.toMatch(/[A-Z]=\S+ npm run/);
  });

  it('the command fits what is installed', () => {
    const command = (installed: boolean, fetch = false) =>
      setupCommand(fakeHost(root, {}, { installed }), { fetch });
    expect(command(false)).toBe('npm run setup');
    expect(command(false, true)).toBe('npm run setup -- --fetch');
    expect(command(true)).toContain("import('@patch-diffusion/torch/setup')");
    mkdirSync(join(root, 'project/node_modules/patch-diffusion'), { recursive: true });
    expect(command(true)).toBe('npx patch-diffusion setup');
    expect(command(true, true)).toBe('npx patch-diffusion setup --fetch');
  });

  it('the remedy fits macOS', () => {
    expect(libtorchRemedies(fakeHost(root, {}, { platform: 'darwin' }))).toContain('brew install pytorch');
  });
});
