/** Averages of any length, made after training of two that were tracked. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import * as torch from '@patch-diffusion/torch';
import { noGrad, scope, type Tensor } from '@patch-diffusion/torch';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { generate, train } from '../../src/index.js';
import { combineProfiles, powerBeta, powerGamma } from '../../src/interchange/power-function.js';
import { reconstruct, snapshotFor } from '../../src/interchange/stored-averages.js';
import { Linear } from '../../src/method.js';
import { PowerAverages } from '../../src/training/power-averages.js';
import { iconSet, runCli, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tensorsOf, tinyOptions } from '../helpers/tiny-train.js';

describe('a power function', () => {
  it('has the exponent of its relative width', () => {
    expect(powerGamma(0.05)).toBeCloseTo(16.972, 3);
    expect(powerGamma(0.1)).toBeCloseTo(6.937, 3);
    // The standard deviation of τ under (γ + 1) τ^γ on [0, 1].
    for (const width of [0.01, 0.13, 0.28]) {
      const g = powerGamma(width);
      const variance = (g + 1) / (g + 3) - ((g + 1) / (g + 2)) ** 2;
      expect(Math.sqrt(variance)).toBeCloseTo(width, 9);
    }
  });

  it('is what the decays of updates add up to', () => {
    const gamma = powerGamma(0.1);
    const steps = 400;
    // The weight that the update at each time has in the end, by the decays of the later ones.
    const end = Array.from({ length: steps }, (_, i) => {
      let weight = 1 - powerBeta(gamma, i + 1, 1);
      for (let t = i + 2; t <= steps; t++) weight *= powerBeta(gamma, t, 1);
      return weight;
    });
    const exact = end.map((_, i) => ((i + 1) / steps) ** (gamma + 1) - (i / steps) ** (gamma + 1));
    end.forEach((weight, i) => {
      expect(weight).toBeCloseTo(exact[i], 12);
    });
  });
});

describe('a combination of profiles', () => {
  const stored = (times: number) =>
    Array.from({ length: times }, (_, k) =>
      [0.05, 0.1].map((width) => ({ time: (1000 * (k + 1)) / times, gamma: powerGamma(width) })),
    ).flat();

  it('is the stored one where that was asked for', () => {
    const { coefficients, fitError } = combineProfiles(stored(8), { time: 1000, gamma: powerGamma(0.1) });
    expect(fitError).toBeLessThan(1e-6);
    expect(coefficients.at(-1)).toBeCloseTo(1, 6);
  });

  it('has weights that sum to 1, and its fit error is the distance of the profiles', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 12 }), fc.double({ min: 0.02, max: 0.27 }), (times, width) => {
        const parts = stored(times);
        const wanted = { time: 1000, gamma: powerGamma(width) };
        const { coefficients, fitError, condition } = combineProfiles(parts, wanted);
        expect(coefficients.reduce((a, b) => a + b)).toBeCloseTo(1, 9);
        expect(condition).toBeGreaterThanOrEqual(1);
        // By numbers: midpoints of 4,000 intervals.
        const profile = ({ time, gamma }: { time: number; gamma: number }, t: number) =>
          t > time ? 0 : ((gamma + 1) / time) * (t / time) ** gamma;
        let [difference, norm] = [0, 0];
        for (let t = 0.125; t < 1000; t += 0.25) {
          const p = profile(wanted, t);
          const q = parts.reduce((sum, part, i) => sum + coefficients[i] * profile(part, t), 0);
          difference += (p - q) ** 2;
          norm += p ** 2;
        }
        expect(fitError).toBeCloseTo(Math.sqrt(difference / norm), 2);
      }),
      { numRuns: 20 },
    );
  });
});

describe('an average that is made afterwards', () => {
  /** Follows a random walk of 200 weights; returns what was stored in 16 bits, and directly tracked averages. */
  function follow(widths: readonly number[], storeEvery: number, updates: number) {
    return scope(() => {
      torch.manualSeed(3);
      const network = new Linear(20, 10, { bias: false });
      const averages = new PowerAverages(network);
      const direct = widths.map((width) => ({ width, tensor: network.weight.detach().clone() }));
      const stored: { time: number; gamma: number; values: Float32Array }[] = [];
      noGrad(() => {
        for (let i = 1; i <= updates; i++) {
          network.weight.add_(torch.randn([10, 20]).mul(0.02));
          // Updates of different sizes.
          const images = 8 + (i % 3);
          for (const average of averages.advance(images)) torch.moveAverages(average, network.parameters());
          for (const { width, tensor } of direct) {
            const beta = powerBeta(powerGamma(width), averages.time, images);
            torch.moveAverages({ averages: [tensor], beta }, network.parameters());
          }
          if (i % storeEvery !== 0) continue;
          for (const [width, tensors] of averages.averages) {
            const [values] = [...tensors.values()].map((t: Tensor) =>
              t.to({ dtype: 'float16' }).to({ dtype: 'float32' }).toFloat32Array(),
            );
            stored.push({ time: averages.time, gamma: powerGamma(width), values });
          }
        }
      });
      const result = {
        stored,
        time: averages.time,
        exact: direct.map(({ width, tensor }) => ({ width, values: tensor.toFloat32Array() })),
        last: network.weight.detach().toFloat32Array(),
      };
      averages.dispose();
      return result;
    });
  }

  it('is the one that was tracked directly, within 2 % of what averaging changes', () => {
    const { stored, time, exact, last } = follow([0.07, 0.13, 0.2], 40, 400);
    const rms = (values: readonly number[]) =>
      Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
    for (const { width, values } of exact) {
      const { coefficients, fitError } = combineProfiles(stored, { time, gamma: powerGamma(width) });
      const made = Array.from(values, (_, p) =>
        coefficients.reduce((sum, x, i) => sum + x * stored[i].values[p], 0),
      );
      const error = rms(made.map((v, p) => v - values[p]));
      const change = rms(made.map((_, p) => last[p] - values[p]));
      expect(fitError, String(width)).toBeLessThan(0.08);
      expect(error / change, String(width)).toBeLessThan(0.02);
    }
  });
});

describe('a run with --power-ema', () => {
  let dir: string;
  let data: string;
  let run: string;
  const options = {
    ...{ ...tinyOptions, durationKimg: 0.25, tickKimg: 0.06, snapshotTicks: 1, stateTicks: 2 },
    ...{ sampleTicks: null, powerEma: true, holdout: 8, schedule: 'stochastic' as const },
  };
  beforeAll(async () => {
    dir = await temporaryFolder();
    data = await iconSet(dir);
    run = (await train({ data, ...options, out: join(dir, 'run') })).runDir;
  });

  it('stores averages with each snapshot, of images by pixels', async () => {
    const files = await readdir(join(run, 'averages'));
    expect(files).toHaveLength((await readdir(join(run, 'snapshots'))).length);
    expect(files.length).toBeGreaterThan(3);
  });

  it('gives the tracked average again, and networks of any length', async () => {
    const exact = await stateOf(run);
    const { denoiser, fitError } = await reconstruct(run, 0.1);
    expect(fitError).toBeLessThan(1e-6);
    for (const [name, parameter] of denoiser.namedParameters()) {
      const bytes = exact.get(`power.0.1.${name}`)!;
      const values = new Float32Array(bytes.slice().buffer);
      // In the order of the file, as the network's own tensors are read.
      const made = parameter.toFloat32Array();
      made.forEach((value, i) => {
        expect(Math.abs(value - values[i])).toBeLessThanOrEqual(1e-3 * Math.abs(values[i]) + 1e-6);
      });
    }
    denoiser.dispose();
    const file = await snapshotFor({ run, network: null, ema: 0.13 });
    const names = [...(await tensorsOf(file)).keys()];
    expect(names).toEqual(expect.arrayContaining([...denoiser.namedParameters()].map(([name]) => name)));
    const out = join(dir, 'drawn');
    await generate({ run, ema: 0.13, count: 1, steps: 2, out });
    expect(await readdir(out)).toContain('000000.png');
  });

  it('goes on exactly, and sets aside what came later', async () => {
    const halves = join(dir, 'halves');
    const stop = new AbortController();
    const onEvent = (event: { type: string; step?: number }) => {
      if (event.type === 'step' && event.step === 5) stop.abort();
    };
    await train({ data, ...options, out: halves }, { signal: stop.signal, onEvent });
    await train({ resume: halves });
    expectSameState(await stateOf(halves), await stateOf(run));
  });

  it('refuses what it cannot know', async () => {
    await expect(reconstruct(run, 0.1, 10_000)).rejects.toThrow(
      /--kimg 10: the newest stored averages are of 0\.\d+ kimg, and nothing is known of what comes later/,
    );
    const plain = join(dir, 'plain');
    await train({ data, ...options, durationKimg: 0.02, powerEma: false, out: plain });
    await expect(generate({ run: plain, ema: 0.1, count: 1 })).rejects.toThrow(
      /has no stored averages; they are kept by runs that were trained with --power-ema/,
    );
    await expect(train({ resume: plain, durationKimg: 1, powerEma: true })).rejects.toThrow(
      '--power-ema is fixed by the run',
    );
  });

  it('has its best length found by the command', async () => {
    const out = join(dir, 'best.safetensors');
    const sweep = await runCli(['ema', run, '--sweep', '0.05:0.2', '--points', '2', '--out', out]);
    expect(sweep.code, sweep.stderr).toBe(0);
    expect(sweep.stdout).toMatch(/^length +held-out loss\nthe run's +\d\.\d+ \[/);
    expect(sweep.stdout).toMatch(/^0\.05 .* fit 0\.0 %/m);
    expect(sweep.stdout.match(/best/g)).toHaveLength(1);
    const wrong = await runCli(['ema', run, '--sweep', '0.2:0.1']);
    expect(wrong.code).toBe(2);
    expect(wrong.stderr).toContain(
      '--sweep 0.2:0.1: must be two lengths from 0.005 to 0.28, the shorter one first',
    );
  });
});
