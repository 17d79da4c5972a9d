import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openImages } from '../../src/data/open-images.js';
import { demoImages, renderDemoSet } from '../../src/prepare/demo-images.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-demo-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

describe('demo images', () => {
  it('are the same in memory and on disk, each time', async () => {
    const outs = ['a.zip', 'b.zip'].map((name) => join(scratch, name));
    for (const out of outs) expect(await renderDemoSet(out, { resolution: 16 })).toBeGreaterThan(1000);
    const sums = await Promise.all(
      outs.map(async (out) =>
        createHash('sha256')
          .update(await readFile(out))
          .digest('hex'),
      ),
    );
    expect(sums[0]).toBe(sums[1]);
    const memory = await demoImages({ resolution: 16 });
    const disk = await openImages(outs[0]);
    expect([disk.length, disk.labelDim, disk.classNames]).toEqual([memory.length, 7, memory.classNames]);
    const indices = [0, 500, 1000];
    await disk.ready(indices);
    const crop = { size: 16, rows: [0, 0, 0], cols: [0, 0, 0] };
    expect(disk.gather(indices, crop)).toEqual(memory.gather(indices, crop));
    expect(disk.labels(indices)).toEqual(memory.labels(indices));
    await disk.close();
    await expect(renderDemoSet(outs[0])).rejects.toMatchObject({ code: 'OUT_EXISTS' });
  });

  it('have seven classes and the wanted background', async () => {
    const set = await demoImages({ resolution: 32, background: 'pastel', xflip: true });
    expect([set.channels, set.height, set.width, set.length]).toEqual([3, 32, 32, 2 * set.baseLength]);
    expect(set.classNames).toContain('Animals & Nature');
    const corner = set.gather([0], { size: 1, rows: [0], cols: [0] });
    expect([...corner]).toEqual([0xff, 0xe3, 0xe3]);
  });
});
