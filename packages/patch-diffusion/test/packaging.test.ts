/**
 * The packages as a user gets them: packed, installed into an empty project, set up, used.
 *
 * Skipped, saying so, where npm can reach neither a registry nor a cache with the dependencies.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { locateAddon } from '@patch-diffusion/torch/setup';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { READY_MADE } from '../src/run/ready-made.js';

const root = resolve(import.meta.dirname, '../../..');
const project = mkdtempSync(join(tmpdir(), 'pd-packaging-'));
const { libtorch } = locateAddon();
const installed = join(project, 'node_modules/@patch-diffusion/torch');

function run(program: string, args: string[], env: Record<string, string> = {}, cwd = project) {
  const inherited = { ...process.env, LIBTORCH: libtorch.root, NO_COLOR: '1', ...env };
  // The addon that a developer works on is not what is tested here.
  delete (inherited as NodeJS.ProcessEnv).TORCH_ADDON;
  return spawnSync(program, args, { cwd, env: inherited, encoding: 'utf8' });
}
const patchDiffusion = (args: string[], env?: Record<string, string>) =>
  run('npx', ['--no-install', 'patch-diffusion', ...args], env);

function install(): string | undefined {
  const packed = run('npm', ['pack', '--workspaces', '--pack-destination', project], {}, root);
  if (packed.status !== 0) throw new Error(packed.stderr);
  writeFileSync(join(project, 'package.json'), '{ "name": "empty", "private": true }\n');
  const tarballs = readdirSync(project).filter((name) => /^patch-diffusion-.*\.tgz$/.test(name));
  const options = [
    '--no-audit',
    '--no-fund',
    '--prefer-offline',
    '--fetch-retries=1',
    '--fetch-timeout=20000',
  ];
  const { status, stderr } = run('npm', ['install', ...options, ...tarballs.map((name) => `./${name}`)]);
  if (status === 0) return undefined;
  if (/ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENOTCACHED|network/.test(stderr)) return stderr;
  throw new Error(stderr);
}

describe('the packed packages in an empty project', () => {
  let offline: string | undefined;
  beforeAll(() => {
    offline = install();
    if (offline) console.warn(`packaging test skipped: npm reaches no registry (${offline.split('\n')[0]})`);
  });
  afterAll(() => rmSync(project, { recursive: true, force: true }));

  it('hold what is needed, and neither tests nor source maps', ({ skip }) => {
    skip(offline !== undefined, 'npm reaches no registry');
    const held = readdirSync(installed).filter((name) => name !== 'README.md');
    expect(held.sort()).toEqual(['LICENSE', 'dist', 'native', 'package.json']);
    const files = readdirSync(join(project, 'node_modules/patch-diffusion'), { recursive: true }) as string[];
    expect(files).toContain('bin/patch-diffusion.js');
    for (const name of READY_MADE) expect(files).toContain(`models/${name}.safetensors`);
    expect(files.filter((name) => /\.(map|tsbuildinfo)$|(^|\/)test\//.test(name))).toEqual([]);
  });

  it('answer --version and --help before any set-up', ({ skip }) => {
    skip(offline !== undefined, 'npm reaches no registry');
    expect(patchDiffusion(['--version']).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
    const help = patchDiffusion(['--help']);
    expect(help.status).toBe(0);
    expect(help.stdout).toMatch(/^Usage: patch-diffusion/);
  });

  it('say before the set-up what is missing and which command fixes it, with exit status 1', ({ skip }) => {
    skip(offline !== undefined, 'npm reaches no registry');
    const notBuilt = patchDiffusion(['doctor']);
    expect(notBuilt.status).toBe(1);
    expect(notBuilt.stdout).toContain('Run: npx patch-diffusion setup');
    const wrong = patchDiffusion(['demo'], { LIBTORCH: '/nowhere' });
    expect(wrong.status).toBe(1);
    expect(wrong.stderr).toMatch(/LIBTORCH is set, but there is no usable libtorch at \/nowhere/);
    expect(wrong.stderr).not.toMatch(/\n\s+at /);
  });

  it('set up in one command, and then work', ({ skip }) => {
    skip(offline !== undefined, 'npm reaches no registry');
    // The repository's own set-up has compiled these files: its objects fit, so that only linking is left.
    const objects = join(root, 'packages/torch/build/objects');
    if (existsSync(objects)) cpSync(objects, join(installed, 'build/objects'), { recursive: true });
    const setup = patchDiffusion(['setup']);
    expect(setup.stderr).toMatch(/Built the addon/);
    expect(setup.status).toBe(0);
    expect(setup.stdout).toContain(`Ready: libtorch ${libtorch.version}`);

    const again = patchDiffusion(['setup']);
    expect(again.stderr).not.toMatch(/Compiling|Built/);

    const doctor = patchDiffusion(['doctor', '--json']);
    expect(doctor.status).toBe(0);
    const report = JSON.parse(doctor.stdout);
    expect(report).toMatchObject({ ok: true, libtorch: { version: libtorch.version, foundBy: 'LIBTORCH' } });
    expect(report.addon).toMatch(/node_modules/);
    expect(report.runtime.threads).toBeGreaterThanOrEqual(1);
  });
});
