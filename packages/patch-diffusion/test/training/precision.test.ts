/** `--precision auto` is decided when a run starts, and recorded. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { resolveTrainOptions } from '../../src/config/resolve.js';
import { resolvePrecision } from '../../src/diffusion/device.js';
import { readRunJson, type TrainOptionsInput, train } from '../../src/index.js';
import { train as trainResolved } from '../../src/training/loop.js';
import { resolveRunOptions } from '../../src/training/resume.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let data: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  data = await iconSet(dir);
});

/** As the command line does. */
async function precisionOfRun(options: TrainOptionsInput): Promise<string> {
  const call = { ...tinyOptions, data, durationKimg: 0.05, ...options };
  const { runDir } = await trainResolved(await resolveRunOptions({ call }));
  return (await readRunJson(runDir))!.config.precision;
}

it('is the default of our own presets, not of the published ones', () => {
  const precisionOf = (preset: string) => resolveTrainOptions({ call: { data, preset } }).precision;
  expect(['tiny', 'small'].map(precisionOf)).toEqual(['auto', 'auto']);
  expect(['celeba-64', 'afhqv2-64', 'imagenet-256'].map(precisionOf)).toEqual(['fp32', 'fp32', 'fp32']);
});

it('is bfloat16 only where the hardware has it', () => {
  expect(resolvePrecision('fp32', 'cpu')).toBe('fp32');
  expect(resolvePrecision('bf16', 'cpu')).toBe('bf16');
  const flags = process.platform === 'linux' ? readFileSync('/proc/cpuinfo', 'utf8') : '';
  const canBeFast = /avx512_bf16|amx_bf16/.test(flags);
  if (!canBeFast) expect(resolvePrecision('auto', 'cpu')).toBe('fp32');
  expect(['fp32', 'bf16']).toContain(resolvePrecision('auto', 'cpu'));
});

it('is recorded as what it became, and a resumed run keeps it', async () => {
  const out = join(dir, 'auto');
  const chosen = await precisionOfRun({ out });
  expect(chosen).toBe(resolvePrecision('auto', 'cpu'));
  expect(await precisionOfRun({ out, resume: out, durationKimg: 0.1 })).toBe(chosen);
});

it('a run in float32 is resumed in float32; the library trains in float32 unless told otherwise', async () => {
  const out = join(dir, 'library');
  await train({ ...tinyOptions, data, out, durationKimg: 0.05 });
  expect((await readRunJson(out))!.config.precision).toBe('fp32');
  expect(await precisionOfRun({ out, resume: out, durationKimg: 0.1 })).toBe('fp32');
});
