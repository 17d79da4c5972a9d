/**
 * `npm run bench -- studio`: how quick the studio is with many long runs. All runs share one file of statistics by hard
 * links, so that 100 runs of 100,000 lines take the place of one.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { link, mkdir, mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { resolveTrainOptions } from 'patch-diffusion';
import type { BenchOptions } from './command-line.js';
import { table } from './markdown.js';
import type { Figure, Measurement } from './measurement.js';

const BIN = join(
  dirname(createRequire(import.meta.url).resolve('patch-diffusion')),
  '../bin/patch-diffusion.js',
);
/** As many as the pages draw at once. */
const COMPARED = 16;
const HOVER_MS = 3000;

export async function measureStudio({ quick, repeats }: BenchOptions): Promise<Measurement> {
  const [runs, lines] = quick ? [5, 2000] : [100, 100_000];
  const folder = await mkdtemp(join(tmpdir(), 'patch-diffusion-bench-studio-'));
  try {
    await writeRuns(folder, runs, lines);
    const begin = performance.now();
    const server = spawn(process.execPath, [BIN, 'studio', folder, '--port', '0', '--no-open'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const [printed] = (await once(server.stdout, 'data')) as [Buffer];
    const startMs = performance.now() - begin;
    const url = printed.toString().trim();
    try {
      const figures = [
        figure('start of the command to the link', 'ms', [startMs]),
        ...(await measureServer(url, Math.min(runs, COMPARED), lines, repeats)),
        ...(await measurePage(url, Math.min(runs, COMPARED), repeats)),
        figure('memory of the server at most', 'MiB', [await peakMiB(server.pid!)]),
      ];
      return { figures, markdown: markdown(figures, runs, lines), details: { runs, lines } };
    } finally {
      server.kill();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const figure = (
  name: string,
  unit: string,
  values: number[],
  better: Figure['better'] = 'lower',
): Figure => ({
  ...{ name, unit, better, values },
});

function markdown(figures: readonly Figure[], runs: number, lines: number): string {
  const rows = figures.map(({ name, unit, values }) => {
    const sorted = [...values].sort((a, b) => a - b);
    return [name, `${Math.round(sorted[Math.floor(sorted.length / 2)])} ${unit}`];
  });
  return `${runs} runs of ${lines.toLocaleString('en-US')} lines\n\n${table(['studio', 'median'], rows)}`;
}

async function timesMs(repeats: number, work: () => Promise<unknown>): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < repeats; i++) {
    const begin = performance.now();
    await work();
    times.push(performance.now() - begin);
  }
  return times;
}

async function measureServer(
  url: string,
  compared: number,
  lines: number,
  repeats: number,
): Promise<Figure[]> {
  const series = async (run: number, query: string) => {
    const response = await fetch(`${url}api/runs/${idOf(run)}/series?${query}`);
    if (!response.ok) throw new Error(await response.text());
    await response.arrayBuffer();
  };
  const all = Array.from({ length: compared }, (_, i) => i);
  const zoomed = `lines=1000&x=kimg&from=${lines}&to=${lines + 400}`;
  return [
    figure('curves of one run', 'ms', await timesMs(repeats, () => series(0, 'lines=1000'))),
    figure(
      `curves of ${compared} runs`,
      'ms',
      await timesMs(repeats, () => Promise.all(all.map((run) => series(run, 'lines=250')))),
    ),
    figure('curves of a part of one run', 'ms', await timesMs(repeats, () => series(0, zoomed))),
  ];
}

/** Nothing where there is no Chromium. */
async function measurePage(url: string, compared: number, repeats: number): Promise<Figure[]> {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(executablePath)) return [];
  const { chromium } = await import('playwright-core');
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
  try {
    const empty = await timesMs(repeats, async () => {
      const page = await browser.newPage();
      await page.goto('about:blank');
      await page.close();
    });
    const afterLoad: number[] = [];
    const firstChart = await timesMs(repeats, async () => {
      const page = await browser.newPage();
      await page.addInitScript(noteFirstChart);
      await page.goto(`${url}#/curves?runs=${idOf(0)}`);
      await page.locator('section[aria-label="Loss"] canvas').waitFor();
      afterLoad.push((await page.evaluate(firstChartAfterLoad)) as number);
      await page.close();
    });
    const page = await browser.newPage();
    await page.goto(`${url}#/curves?runs=${Array.from({ length: compared }, (_, i) => idOf(i)).join(',')}`);
    await page
      .locator('section[aria-label="Loss"] li')
      .nth(compared - 1)
      .waitFor();
    await page.waitForTimeout(500);
    const framesPerSec = (await page.evaluate(hover)) as number;
    return [
      figure('an empty page opened and closed', 'ms', empty),
      figure('page opened to first chart, and closed', 'ms', firstChart),
      figure('first chart after the load event', 'ms', afterLoad),
      figure(`hover over the curves of ${compared} runs`, 'frames/s', [framesPerSec], 'higher'),
    ];
  } finally {
    await browser.close();
  }
}

/** Notes when the first chart is there. */
const noteFirstChart = `new MutationObserver((_, observer) => {
  if (!document.querySelector('section[aria-label="Loss"] canvas')) return;
  window.firstChartMs = performance.now();
  observer.disconnect();
}).observe(document, { childList: true, subtree: true })`;

/** Milliseconds; 0 where the chart was there before. */
const firstChartAfterLoad = `new Promise((resolve) => {
  const look = () => {
    const { loadEventEnd } = performance.getEntriesByType('navigation')[0];
    if (loadEventEnd > 0) resolve(Math.max(0, window.firstChartMs - loadEventEnd));
    else setTimeout(look, 10);
  };
  look();
})`;

/** Moves the pointer over a chart in every frame; runs in the page. */
const hover = `new Promise((resolve) => {
  const over = document.querySelector('section[aria-label="Loss"] .u-over');
  const { left, top, width, height } = over.getBoundingClientRect();
  const begin = performance.now();
  let frames = 0;
  over.dispatchEvent(new MouseEvent('mouseenter', { clientX: left + 1, clientY: top + 1 }));
  const move = () => {
    const share = ((performance.now() - begin) / ${HOVER_MS}) % 1;
    over.dispatchEvent(new MouseEvent('mousemove', { clientX: left + share * width, clientY: top + height / 2, bubbles: true }));
    frames++;
    const ms = performance.now() - begin;
    if (ms < ${HOVER_MS}) requestAnimationFrame(move);
    else resolve(frames / (ms / 1000));
  };
  requestAnimationFrame(move);
})`;

/** Peak of resident memory, where the system tells it (Linux). */
async function peakMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? Number.NaN) / 1024;
}

const idOf = (run: number): string => `${String(run).padStart(5, '0')}-icons`;

async function writeRuns(folder: string, runs: number, lines: number): Promise<void> {
  const now = new Date().toISOString();
  const json = {
    format: 1,
    config: resolveTrainOptions({ call: { data: 'icons.zip', preset: 'tiny', seed: 1 } }),
    ...{ status: 'done', version: '0.1.0', pid: 1, host: 'elsewhere', startedAt: now, heartbeat: now },
    ...{ step: lines * 20, nimg: lines * 2000, totalNimg: lines * 2000 },
  };
  const stats = join(folder, 'stats');
  await writeStats(stats, lines);
  for (let run = 0; run < runs; run++) {
    const dir = join(folder, idOf(run));
    await mkdir(dir);
    await writeFile(join(dir, 'run.json'), JSON.stringify(json));
    await link(stats, join(dir, 'stats.jsonl'));
  }
}

/** Lines of the keys and the length that training writes. */
async function writeStats(file: string, lines: number): Promise<void> {
  const handle = await open(file, 'w');
  const stat = (mean: number) => ({ num: 146_880, mean, std: 1.3370355613979101 + mean / 7 });
  for (let start = 0; start < lines; start += 1000) {
    const part = Array.from({ length: Math.min(1000, lines - start) }, (_, k) => {
      const i = start + k;
      const loss = (1 + i / 50) ** -0.3 * (0.9 + 0.2 * Math.random());
      const losses = ['loss', 'p8', 'p16', 'p32', 'held_out'].map((name) => [`Loss/${name}`, stat(loss)]);
      return JSON.stringify({
        ...Object.fromEntries(losses),
        ...{ 'Progress/lr': stat(0.001), 'Progress/grad_norm': stat(300 * loss), 'Progress/tick': stat(i) },
        ...{ 'Progress/kimg': stat(2 * (i + 1)), 'Progress/step': stat(20 * (i + 1)) },
        ...{ 'Timing/total_sec': stat(8.5 * (i + 1)), 'Timing/sec_per_tick': stat(8.5) },
        ...{ 'Timing/sec_per_kimg': stat(4.25), 'Timing/maintenance_sec': stat(0.1 * loss) },
        ...{ 'Timing/images_per_sec': stat(235 + loss), 'Resources/cpu_mem_gb': stat(0.9) },
        timestamp: 1_795_975_380 + 8.5 * i,
      });
    });
    await handle.write(`${part.join('\n')}\n`);
  }
  await handle.close();
}
