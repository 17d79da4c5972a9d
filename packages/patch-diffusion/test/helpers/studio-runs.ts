/** Run folders as training writes them, made without training. */
import { mkdir, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { presets } from '../../src/config/presets.js';
import type { TrainOptionsInput } from '../../src/config/train-options.js';
import type { RunJson } from '../../src/run/runs.js';

export interface MadeRun {
  readonly lines?: number;
  readonly config?: TrainOptionsInput;
  readonly json?: Partial<RunJson>;
  /** Sheets at every so many lines. */
  readonly sheetEvery?: number;
  /** Evaluations at every so many lines; 0: none. */
  readonly evaluateEvery?: number;
}

const TICK_KIMG = 2;

/** Writes a run folder below `runs`. @returns its path */
export async function makeRun(runs: string, id: string, made: MadeRun = {}): Promise<string> {
  const { lines = 50, config = {}, json = {}, sheetEvery = 10, evaluateEvery = 0 } = made;
  const dir = join(runs, id);
  for (const folder of ['samples', 'snapshots']) await mkdir(join(dir, folder), { recursive: true });
  const runJson: RunJson = {
    format: 1,
    config: { ...presets.tiny.values, data: 'icons.zip', preset: 'tiny', seed: 1, ...config },
    workingFolder: '/home/someone/images',
    status: 'done',
    version: '0.1.0',
    pid: process.pid,
    host: hostname(),
    startedAt: '2026-11-29T18:03:00.000Z',
    heartbeat: new Date().toISOString(),
    step: lines * 20,
    nimg: lines * TICK_KIMG * 1000,
    totalNimg: 100_000,
    ...json,
  };
  await writeFile(join(dir, 'run.json'), JSON.stringify(runJson, null, 2));
  const lr = runJson.config.lr;
  await writeFile(
    join(dir, 'stats.jsonl'),
    Array.from({ length: lines }, (_, i) => statsLine(i, lr)).join(''),
  );
  const evaluations = Array.from({ length: evaluateEvery && lines / evaluateEvery }, (_, i) =>
    evaluationLine((i + 1) * evaluateEvery * TICK_KIMG * 1000),
  );
  if (evaluations.length) await writeFile(join(dir, 'evaluations.jsonl'), evaluations.join(''));
  for (let i = 0; i < lines; i += sheetEvery) await writeSheet(dir, i * TICK_KIMG, i / Math.max(1, lines));
  return dir;
}

function evaluationLine(nimg: number): string {
  const figure = (value: number) => ({ value, low: value * 0.9, high: value * 1.1, n: 1000, floor: null });
  const metrics = { fd: figure(90 * (nimg / 1e4) ** -0.5), memorised: figure(0.01) };
  return `${JSON.stringify({ format: 1, nimg, step: nimg / 100, at: '2026-11-29T18:30:00Z', metrics })}\n`;
}

/** A repeatable number in [0, 1). */
const noise = (i: number, salt: number): number => {
  const x = Math.sin(i * 12.9898 + salt * 78.233) * 43_758.5453;
  return x - Math.floor(x);
};

/** One line of stats.jsonl, with its line break: a loss that falls as losses do, faster with a larger rate. */
export function statsLine(i: number, lr = 1e-3): string {
  const stat = (mean: number) => ({ num: 20, mean, std: mean / 5 });
  const fallen = (1 + i * (lr / 1e-3)) ** -0.28;
  const loss = (salt: number, scale: number) =>
    stat(scale * fallen * (0.9 + 0.25 * noise(i, salt + lr * 1e4)));
  const lossHeldOut = i % 5 === 0 ? { 'Loss/held_out': stat(1.08 * fallen + 0.03) } : {};
  return `${JSON.stringify({
    'Loss/loss': loss(1, 1),
    'Loss/p8': loss(2, 1.25),
    'Loss/p16': loss(3, 1),
    'Loss/p32': loss(4, 0.82),
    ...lossHeldOut,
    'Progress/lr': stat(lr * Math.min(1, (i + 1) / 8)),
    'Progress/grad_norm': stat(0.4 + 2.5 * fallen * (0.6 + noise(i, 5))),
    'Progress/tick': stat(i),
    'Progress/kimg': stat((i + 1) * TICK_KIMG),
    'Progress/step': stat((i + 1) * 20),
    'Timing/total_sec': stat((i + 1) * 8.5),
    'Timing/sec_per_tick': stat(8.5),
    'Timing/sec_per_kimg': stat(4.2),
    'Timing/maintenance_sec': stat(0.4),
    'Timing/images_per_sec': stat(236 + 8 * noise(i, 6)),
    'Resources/cpu_mem_gb': stat(0.9 + 0.1 * (1 - fallen)),
    timestamp: 1_795_975_380 + i * 8.5,
  })}\n`;
}

/** 4×4 discs that come out of noise. @param share of the training that is done */
async function writeSheet(dir: string, kimg: number, share: number): Promise<void> {
  const side = 128;
  const pixels = Buffer.alloc(side * side * 3);
  for (let p = 0; p < side * side; p++) {
    const [x, y] = [p % side, Math.floor(p / side)];
    const tile = Math.floor(y / 32) * 4 + Math.floor(x / 32);
    const isDisc = Math.hypot((x % 32) - 16, (y % 32) - 16) < 8 + (tile % 5);
    for (let c = 0; c < 3; c++) {
      const clean = isDisc ? 255 * noise(tile, c + 1) : 245;
      pixels[p * 3 + c] = share * clean + (1 - share) * 255 * noise(p, c);
    }
  }
  const name = `fakes-${String(kimg).padStart(6, '0')}.png`;
  const png = sharp(pixels, { raw: { width: side, height: side, channels: 3 } }).png();
  await writeFile(join(dir, 'samples', name), await png.toBuffer());
}
