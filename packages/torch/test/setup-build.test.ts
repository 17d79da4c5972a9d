import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { findBuild, locateAddon } from '../src/setup/addon.js';
import { buildAddon, findCompiler } from '../src/setup/build.js';
import { type Host, thisHost } from '../src/setup/host.js';
import { setup } from '../src/setup/index.js';
import type { Libtorch } from '../src/setup/libtorch.js';
import { type FoundLibtorch, locateLibtorch } from '../src/setup/locate.js';
import { makeRecipe } from '../src/setup/recipe.js';
import { dropTemporary, fakeHost, fakeLibtorch, makeTemporary, put } from './setup-machine.js';

// A small addon without libtorch's headers compiles in a second; it is linked with the real libtorch.
const ADDON = (number: number | string) => `
#include <node_api.h>
napi_value number(napi_env env);
NAPI_MODULE_INIT() { napi_set_named_property(env, exports, "number", number(env)); return exports; }
napi_value number(napi_env env) { napi_value out; napi_create_int32(env, ${number}, &out); return out; }
`;

let root: string;
let host: Host;
let libtorch: FoundLibtorch;
const quiet = () => undefined;
const build = () => buildAddon(host, libtorch, quiet);

beforeAll(() => {
  root = makeTemporary();
  const packageDir = join(root, 'torch');
  put(join(packageDir, 'package.json'), '{}');
  mkdirSync(join(packageDir, 'node_modules'));
  const headers = dirname(createRequire(import.meta.url).resolve('node-api-headers/package.json'));
  symlinkSync(headers, join(packageDir, 'node_modules/node-api-headers'));
  host = { ...thisHost(), packageDir, cacheDir: join(root, 'cache') };
  const found = locateLibtorch(host).libtorch;
  if (!found) throw new Error('the tests need a libtorch: npm run setup');
  libtorch = found;
});
afterAll(() => dropTemporary(root));
afterEach(() => {
  for (const name of ['native', 'build'])
    rmSync(join(host.packageDir, name), { recursive: true, force: true });
});

describe('buildAddon', () => {
  it('builds an addon that loads and that locateAddon finds; a changed source makes a new one', async () => {
    put(join(host.packageDir, 'native/main.cc'), ADDON(1));
    put(join(host.packageDir, 'native/other.cc'), 'int other() { return 2; }\n');
    expect(() => locateAddon(host)).toThrow(expect.objectContaining({ code: 'ADDON_NOT_BUILT' }));
    const first = await build();
    expect(locateAddon(host).addon).toBe(first);
    const module = { exports: {} as { number?: number } };
    process.dlopen(module, first);
    expect(module.exports.number).toBe(1);

    // What a killed build left: a process number that none can have.
    const objects = join(host.packageDir, 'build/objects');
    const kept = () =>
      readdirSync(join(objects, readdirSync(objects)[0])).filter((name) => name !== 'libtorch');
    put(join(objects, readdirSync(objects)[0], 'main-0.o.999999999'));
    put(join(host.packageDir, 'native/main.cc'), ADDON(2));
    expect(findBuild(host, libtorch)).toBeUndefined();
    const compiled: string[] = [];
    const second = await buildAddon(host, libtorch, (line) => compiled.push(line));
    expect(second).not.toBe(first);
    expect(existsSync(first), 'the older build for the same libtorch is removed').toBe(false);
    expect(
      compiled.filter((line) => /other\.cc/.test(line)),
      'an unchanged file is not compiled again',
    ).toEqual([]);
    expect(kept(), 'nothing is left but the objects of this build').toHaveLength(2);
    expect(readdirSync(join(host.packageDir, 'build')).filter((name) => name.startsWith('.'))).toEqual([]);
  });

  it('a compile error is shown in a few lines, with the log', async () => {
    put(join(host.packageDir, 'native/main.cc'), 'int f() { return nonsense; }\n');
    const log = join(host.packageDir, 'build/compile.log');
    await expect(build()).rejects.toThrow(expect.objectContaining({ code: 'COMPILE_FAILED' }));
    await expect(build()).rejects.toThrow(/Compiling main\.cc failed:\n.*nonsense[\s\S]*The whole log: /);
    expect(existsSync(log)).toBe(true);
    expect(findBuild(host, libtorch)).toBeUndefined();
  });

  it('an addon that does not load is no build', async () => {
    put(join(host.packageDir, 'native/main.cc'), `void gone();\nint user = (gone(), 1);\n`);
    await expect(build()).rejects.toThrow(expect.objectContaining({ code: 'ADDON_UNUSABLE' }));
    expect(findBuild(host, libtorch)).toBeUndefined();
  });

  it('names each build after its libtorch, so that several live side by side', () => {
    put(join(host.packageDir, 'native/main.cc'), ADDON(1));
    const recipe = (changes: Partial<Libtorch>) =>
      makeRecipe(host, { ...libtorch, ...changes }, join(host.packageDir, 'build'));
    const { key } = recipe({});
    expect(recipe({ version: '9.9.9' }).key).not.toBe(key);
    expect(recipe({ libDir: '/elsewhere' }).key).not.toBe(key);
    expect(recipe({ version: '2.12.1' }).compileFlags).toContain('-std=c++17');
    expect(recipe({ version: '2.13.0' }).compileFlags).toContain('-std=c++20');
    const old = recipe({ cxx11Abi: false, includeDirs: ['/usr/include'] });
    expect(old.compileFlags).toContain('-D_GLIBCXX_USE_CXX11_ABI=0');
    expect(old.compileFlags).not.toContain('/usr/include');
  });
});

describe('a libtorch in the project', () => {
  const loaded = (addon: string) => {
    const script =
      'const m = { exports: {} }; process.dlopen(m, process.argv[1]); console.log(m.exports.number)';
    return spawnSync(process.execPath, ['-e', script, addon], { encoding: 'utf8' }).stdout;
  };

  it('and its addon are used again where the project was moved or copied to', async () => {
    const [project, cacheDir] = [join(root, 'project'), join(root, 'no-cache')];
    const at = (projectDir: string): Host => {
      const packageDir = join(projectDir, 'packages/torch');
      return { ...host, env: { PATH: host.env.PATH }, projectDir, packageDir, cacheDir };
    };
    put(join(project, 'packages/torch/package.json'), '{}');
    mkdirSync(join(project, 'node_modules'));
    symlinkSync(
      join(host.packageDir, 'node_modules/node-api-headers'),
      join(project, 'node_modules/node-api-headers'),
    );
    put(join(project, 'packages/torch/native/main.cc'), `int answer();${ADDON('answer()')}`);
    const folder = fakeLibtorch(join(project, '.libtorch/torch'), '2.13.0');
    put(join(root, 'answer.cc'), 'int answer() { return 42; }');
    for (const name of ['torch_cpu', 'c10']) {
      const target = join(folder, `lib/lib${name}.so`);
      spawnSync(findCompiler(host), ['-shared', '-fPIC', '-o', target, join(root, 'answer.cc')]);
    }
    const { addon } = await setup({ host: at(project) });
    expect(loaded(addon)).toBe('42\n');

    const said: string[] = [];
    const [copy, moved] = [join(root, 'copied/to'), join(root, 'moved')];
    cpSync(project, copy, { recursive: true, verbatimSymlinks: true });
    renameSync(project, moved);
    for (const there of [copy, moved]) {
      const found = await setup({ host: at(there), log: (line) => said.push(line) });
      expect(found.addon).toBe(join(there, addon.slice(project.length)));
      expect(locateAddon(at(there)).addon).toBe(found.addon);
      expect(loaded(found.addon), 'the libtorch is found from the new place').toBe('42\n');
    }
    expect(said).toEqual([]);

    // A build outside of the project cannot know it by a path from there.
    const { key, linkFlags } = makeRecipe(
      at(moved),
      locateLibtorch(at(moved)).libtorch!,
      join(cacheDir, 'build'),
    );
    expect(addon).not.toContain(key);
    expect(linkFlags).toContain(`-Wl,-rpath,${join(moved, '.libtorch/torch/lib')}`);
  });
});

describe('setup', () => {
  it('does nothing where the addon loads, and builds it again where it does not', async () => {
    put(join(host.packageDir, 'native/main.cc'), ADDON(3));
    const said: string[] = [];
    const run = () => setup({ host, log: (line) => said.push(line) });
    const { addon } = await run();
    said.length = 0;
    await run();
    expect(said).toEqual([]);

    truncateSync(addon, 100);
    expect((await run()).addon).toBe(addon);
    expect(said[0]).toMatch(/^The addon that was built earlier does not load \(.+\); building it again\.$/);
    expect(said.join('\n')).toContain('main.cc');
    const module = { exports: {} as { number?: number } };
    process.dlopen(module, addon);
    expect(module.exports.number).toBe(3);
  });

  it('reports a file system error in one line with a remedy and the command', async () => {
    put(join(host.packageDir, 'native/main.cc'), ADDON(4));
    put(join(host.packageDir, 'build/objects'));
    await expect(setup({ host })).rejects.toMatchObject({
      name: 'SetupError',
      code: 'FILE_SYSTEM',
      message: expect.stringMatching(/build\/objects.*A file is in the way.*Then run: npm run setup$/),
    });
  });

  it('names the folders of which none can be written', async () => {
    put(join(host.packageDir, 'native/main.cc'), ADDON(4));
    put(join(host.packageDir, 'build'));
    put(join(root, 'file'));
    for (const cacheDir of [join(root, 'file'), '/proc/patch-diffusion']) {
      await expect(setup({ host: { ...host, cacheDir } })).rejects.toThrow(
        `can be written to none of: ${join(host.packageDir, 'build')}, ${cacheDir}/build. Make one of them writable`,
      );
    }
  });
});

it('an addon that cannot be loaded: why, and what to do', async () => {
  put(join(root, 'torch.node'), 'no library');
  vi.stubEnv('TORCH_ADDON', join(root, 'torch.node'));
  vi.resetModules();
  const { native } = await import('../src/native.js');
  expect(() => native()).toThrow(
    /torch\.node could not be loaded: .+\. TORCH_ADDON names it: correct or unset/,
  );
  vi.unstubAllEnvs();
});

describe('findCompiler', () => {
  it('without one: what was tried and what to install', () => {
    const bare = fakeHost(root);
    expect(() => findCompiler(bare)).toThrow(/tried: c\+\+, g\+\+, clang\+\+/);
    put(join(bare.systemRoot, 'etc/os-release'), 'ID=debian\n');
    expect(() => findCompiler(bare)).toThrow(/sudo apt-get install g\+\+/);
  });

  it('uses CXX, and reports one that is no program', () => {
    expect(() => findCompiler(fakeHost(root, { CXX: 'no-such-compiler' }))).toThrow(
      /CXX is set to 'no-such-compiler'/,
    );
    put(join(root, 'bin/my-c++'));
    expect(findCompiler(fakeHost(root, { CXX: 'my-c++' }))).toBe(join(root, 'bin/my-c++'));
  });
});
