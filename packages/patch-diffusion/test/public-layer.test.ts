/** What the entry points promise: the samplers run in a browser, and the run folder is read without libtorch. */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { runInNewContext } from 'node:vm';
import { rolldown } from 'rolldown';
import { describe, expect, it } from 'vitest';

const root = resolve(import.meta.dirname, '../../..');

/**
 * Bundles a module with all that it imports.
 * @returns imports: those that are left, of Node's modules, say; files: what was bundled, relative to the project
 */
async function bundle(entry: string, platform: 'browser' | 'node') {
  const bundler = await rolldown({
    ...{ input: join(root, 'packages/patch-diffusion/src', entry), platform, logLevel: 'silent' },
  });
  const format = platform === 'browser' ? 'iife' : 'esm';
  const { output } = await bundler.generate({ format, name: 'bundle', codeSplitting: false, minify: true });
  await bundler.close();
  const [{ code, imports, moduleIds }] = output;
  return { code, imports, files: moduleIds.map((file) => relative(root, file)) };
}

describe('patch-diffusion/samplers', () => {
  const bundled = bundle('samplers.ts', 'browser');

  it('bundles for a browser without imports of Node or of native code', async () => {
    const { code, imports } = await bundled;
    expect(imports).toEqual([]);
    expect(code).not.toMatch(/\brequire\(|\bprocess\.|\bBuffer\b|createRequire|\.node['"]/);
  });

  // The exact denoiser of data that is N(m, s²) in every element is (s²·x + σ²·m) / (s² + σ²).
  it('draws from a normal distribution where there is nothing but JavaScript', async () => {
    const { code } = await bundled;
    const script = `${code}
      const [m, s] = [0.3, 0.5];
      const range = { sigmaMin: 0, sigmaMax: Infinity, roundSigma: (sigma) => sigma };
      const latents = Float64Array.of(-1.5, -0.5, 0, 0.5, 1.5);
      const draw = (sampler) => {
        const plan = bundle.planSampler({ sampler, numSteps: 64 }, range);
        let state = { x: latents.map((z) => z * plan.initialScale) };
        for (let i = 0; i < plan.sigmas.length; i++) {
          state = bundle.runStep(plan.step(bundle.float64Math, i, state, null), ({ x, sigma }) =>
            x.map((value) => (s * s * value + sigma * sigma * m) / (s * s + sigma * sigma)));
        }
        return [...state.x];
      };
      JSON.stringify([draw('edm'), draw('generalised'), draw('dpmpp-2m')]);`;
    const drawn = JSON.parse(runInNewContext(script) as string) as number[][];
    // The flow keeps quantiles: a latent z, which begins as N(0, 80²), ends at m + s·z · 80 / √(80² + s²) and a bit.
    const exact = [-1.5, -0.5, 0, 0.5, 1.5].map((z) => 0.3 + 0.5 * ((80 * z - 0.3) / Math.hypot(80, 0.5)));
    for (const values of drawn) {
      for (const [i, value] of values.entries()) expect(value).toBeCloseTo(exact[i], 2);
    }
  });
});

describe('patch-diffusion/run', () => {
  it('imports nothing that could load libtorch', async () => {
    const { files, imports } = await bundle('run.ts', 'node');
    expect(files).toContain('packages/torch/dist/safetensors/read-header.js');
    expect(files.filter((file) => /^packages\/torch\/dist\/(index|native|tensor)\./.test(file))).toEqual([]);
    expect(imports.filter((name) => !/^node:|^[a-z_/]+$/.test(name))).toEqual([]);
  });

  it('reads runs where there is no libtorch', () => {
    const runs = resolve(import.meta.dirname, 'fixtures/old-run/runs');
    const script = `
      import { listRuns, newestSnapshot, newestState, readSnapshotInfo, readStats } from 'patch-diffusion/run';
      const [{ dir, json }] = await listRuns(${JSON.stringify(runs)});
      const { precond } = await readSnapshotInfo(await newestSnapshot(dir));
      const loss = (await readStats(dir)).at(-1)['Loss/loss'].mean;
      const state = await newestState(dir);
      const addons = process.report.getReport().sharedObjects.filter((file) => /torch|\\.node$/.test(file));
      console.log(JSON.stringify({ status: json.status, type: precond.type, loss: typeof loss, state: !!state, addons }));`;
    // A libtorch that is not there: loading the addon would be an error.
    const env = { ...process.env, LIBTORCH: '/nowhere', TORCH_ADDON: '/nowhere/addon.node' };
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      ...{ cwd: join(root, 'packages/patch-diffusion'), env, encoding: 'utf8' },
    });
    expect(JSON.parse(output)).toEqual({
      status: 'done',
      type: 'pedm',
      loss: 'number',
      state: true,
      addons: [],
    });
  });
});

describe('the studio', () => {
  it('imports nothing that could load libtorch', async () => {
    const { files } = await bundle('studio/studio.ts', 'node');
    expect(files.filter((file) => /^packages\/torch\/dist\/(index|native|tensor)\./.test(file))).toEqual([]);
  });
});

describe('benchmarks and examples', () => {
  it('import packages by their public names only', () => {
    const files = ['benchmarks/src', 'examples'].flatMap((folder) =>
      readdirSync(join(root, folder))
        .filter((name) => /\.m?[jt]s$/.test(name))
        .map((name) => join(root, folder, name)),
    );
    const wrong = files.flatMap((file) =>
      [...readFileSync(file, 'utf8').matchAll(/from '([^']+)'/g)]
        .map(([, specifier]) => specifier)
        .filter((specifier) => /\/(dist|src)\/|^\.\.\//.test(specifier))
        .map((specifier) => `${file}: ${specifier}`),
    );
    expect(files.length).toBeGreaterThan(5);
    expect(wrong).toEqual([]);
  });
});

describe('the studio', () => {
  it('imports nothing that could load libtorch', async () => {
    const { files } = await bundle('studio/studio.ts', 'node');
    expect(files).toContain('packages/patch-diffusion/src/data/preview.ts');
    expect(files.filter((file) => /^packages\/torch\/dist\/(index|native|tensor)\./.test(file))).toEqual([]);
  });
});
