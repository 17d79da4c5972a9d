/** Curves of short, long and damaged statistics. */
import { appendFile, mkdir, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { lastValues, readSeries } from '../../src/studio/series.js';
import { statsLine } from '../helpers/studio-runs.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

async function runWith(dir: string, name: string, text: string): Promise<string> {
  const run = join(dir, name);
  await mkdir(run, { recursive: true });
  await writeFile(join(run, 'stats.jsonl'), text);
  return run;
}

const lines = (count: number) => Array.from({ length: count }, (_, i) => statsLine(i)).join('');

describe('readSeries', () => {
  let dir: string;
  /** 20,000 lines, 30 MB: read at places. */
  let long: string;
  beforeAll(async () => {
    dir = await temporaryFolder();
    long = await runWith(dir, 'long', lines(20_000));
  });

  it('gives every line of a short run, with its values', async () => {
    const run = await runWith(dir, 'short', lines(40));
    const { columns, thinned, damaged } = await readSeries(run, 100);
    expect({ thinned, damaged }).toEqual({ thinned: false, damaged: 0 });
    expect(columns['Progress/kimg']).toEqual(Array.from({ length: 40 }, (_, i) => (i + 1) * 2));
    expect(columns['Loss/loss'][7]).toBe(JSON.parse(statsLine(7))['Loss/loss'].mean);
    // Every fifth line has one.
    expect(columns['Loss/held_out'].filter((value) => value !== null)).toHaveLength(8);
    expect(columns.timestamp[1]).toBe(JSON.parse(statsLine(1)).timestamp);
  });

  it('thins a long run evenly, from its first line to its last', async () => {
    const { columns, thinned } = await readSeries(long, 500);
    const kimg = columns['Progress/kimg'] as number[];
    expect(thinned).toBe(true);
    expect(kimg.length).toBeGreaterThan(450);
    expect(kimg.length).toBeLessThanOrEqual(500);
    expect([kimg[0], kimg.at(-1)]).toEqual([2, 40_000]);
    const gaps = kimg.slice(1).map((value, i) => value - kimg[i]);
    expect(Math.min(...gaps)).toBeGreaterThan(0);
    expect(Math.max(...gaps)).toBeLessThan(200); // of 80 on average
  });

  it('reads a small part of a long file', async () => {
    const { size } = await stat(join(long, 'stats.jsonl'));
    const { rss } = process.memoryUsage();
    const begin = process.cpuUsage();
    await readSeries(long, 500);
    const { user, system } = process.cpuUsage(begin);
    expect(size).toBeGreaterThan(20e6);
    expect(process.memoryUsage().rss - rss).toBeLessThan(size);
    // Parsing the whole file takes about 400 ms.
    expect((user + system) / 1000).toBeLessThan(250);
  });

  it('shows every line of a part of a long run, and the neighbours', async () => {
    const { columns } = await readSeries(long, 500, { x: 'kimg', from: 20_000, to: 20_100 });
    const kimg = columns['Progress/kimg'] as number[];
    const inside = kimg.filter((value) => value >= 20_000 && value <= 20_100);
    expect(inside).toEqual(Array.from({ length: 51 }, (_, i) => 20_000 + 2 * i));
    expect(kimg[0]).toBeLessThan(20_000);
    expect(kimg.at(-1)).toBeGreaterThan(20_100);
  });

  it.each(['kimg', 'step', 'time', 'clock'] as const)('finds a part by %s', async (x) => {
    const key = {
      kimg: 'Progress/kimg',
      step: 'Progress/step',
      time: 'Timing/total_sec',
      clock: 'timestamp',
    }[x];
    const at = (i: number) => {
      const value = JSON.parse(statsLine(i))[key];
      return typeof value === 'number' ? value : value.mean;
    };
    const { columns } = await readSeries(long, 500, { x, from: at(10_000), to: at(10_010) });
    const inside = columns[key].filter((value) => value! >= at(10_000) && value! <= at(10_010));
    expect(inside).toHaveLength(11);
  });

  it('leaves damaged lines out and counts them; a line that is being written is none yet', async () => {
    const text = `${lines(3)}{"Loss/loss": {"num": 1, "me\nnull\n[1]\n\0\0\0\n${lines(5)}{"Loss/loss"`;
    const { columns, damaged } = await readSeries(await runWith(dir, 'damaged', text), 100);
    expect(columns['Loss/loss']).toHaveLength(8);
    expect(damaged).toBe(4);
  });

  it('survives a long file that is damaged in the middle and has a line without end', async () => {
    const text = `${lines(2000)}${'\0'.repeat(700_000)}\n${lines(2000)}${'x'.repeat(10_000)}`;
    const { columns } = await readSeries(await runWith(dir, 'long-damaged', text), 200);
    expect(columns['Loss/loss'].length).toBeGreaterThan(100);
    expect(columns['Progress/kimg'].at(-1)).toBe(4000);
  });

  it('takes what is no number as absent', async () => {
    const text =
      '{"Loss/loss":{"num":1,"mean":null,"std":null},"Progress/kimg":{"num":1,"mean":1},"note":"a"}\n';
    const { columns } = await readSeries(await runWith(dir, 'nan', text), 100);
    expect(columns).toEqual({ 'Loss/loss': [null], 'Progress/kimg': [1], note: [null] });
  });

  it('has nothing of a run that has reported nothing, or not a whole line', async () => {
    const empty = { columns: {}, thinned: false, damaged: 0 };
    expect(await readSeries(join(dir, 'none'), 100)).toEqual(empty);
    expect(await readSeries(await runWith(dir, 'empty', ''), 100)).toEqual(empty);
    expect(await readSeries(await runWith(dir, 'begun', '{"Loss'), 100)).toEqual(empty);
  });
});

describe('lastValues', () => {
  it('has the newest value of each key, also of those that are not in every line', async () => {
    const dir = await temporaryFolder();
    const run = await runWith(dir, 'run', lines(8));
    const last = await lastValues(run);
    expect(last.get('Progress/kimg')).toBe(16);
    expect(last.get('Loss/held_out')).toBe(JSON.parse(statsLine(5))['Loss/held_out'].mean);
    await appendFile(join(run, 'stats.jsonl'), '{"Progress/kimg":{"num"');
    expect((await lastValues(run)).get('Progress/kimg')).toBe(16);
    await truncate(join(run, 'stats.jsonl'), 0);
    expect((await lastValues(run)).size).toBe(0);
  });
});
