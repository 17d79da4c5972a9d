import { existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';

describe('a training loop', () => {
  it('holds a constant number of tensors and a flat amount of memory over 1,000 steps', () => {
    torch.manualSeed(0);
    const weights = [torch.randn([16, 3, 3, 3]), torch.randn([16, 16, 3, 3]), torch.randn([3, 16, 3, 3])].map(
      (w) => torch.keep(w.mul(0.1)).setRequiresGrad(),
    );
    const target = torch.randn([8, 3, 16, 16]);
    const step = (): number =>
      torch.scope(() => {
        let x = torch.randn([8, 3, 16, 16]);
        for (const w of weights) x = torch.conv2d(x, w, null, 1, 1).silu();
        const loss = torch.mseLoss(x, target);
        loss.backward();
        torch.noGrad(() => {
          for (const w of weights) {
            w.sub_(w.grad!, { alpha: 0.05 });
            w.grad = null;
          }
        });
        return loss.item();
      });
    for (let i = 0; i < 100; i++) step();
    const live = torch.liveTensors();
    const bytes = torch.nativeBytes();
    const rss = process.memoryUsage().rss;
    for (let i = 0; i < 1000; i++) {
      step();
      if (torch.liveTensors() !== live) expect.fail(`step ${i}: ${torch.liveTensors() - live} more tensors`);
    }
    expect(torch.nativeBytes()).toBe(bytes);
    // A leak of one activation per step would be 65 MB.
    expect((process.memoryUsage().rss - rss) / 2 ** 20).toBeLessThan(24);
    for (const t of [...weights, target]) t.dispose();
  });
});

describe('tensors outside of any scope', () => {
  it('are freed by the collector once unreachable', async () => {
    const before = torch.liveTensors();
    // The collector is told of the memory, so making garbage is enough to have it run.
    for (let round = 0; round < 100 && (round < 5 || torch.liveTensors() > before + 20); round++) {
      for (let i = 0; i < 10; i++) torch.zeros([1 << 20]);
      await sleep(5);
    }
    expect(torch.liveTensors()).toBeLessThan(before + 60);
  });
});

const { glibcVersionRuntime } = (
  process.report.getReport() as unknown as { header: { glibcVersionRuntime?: string } }
).header;
/** Settings of glibc's allocator by its user are left alone. */
const isTuned = Object.keys(process.env).some(
  (name) => name.startsWith('MALLOC_') || name === 'GLIBC_TUNABLES',
);
const hasHugePages =
  glibcVersionRuntime !== undefined && !isTuned && existsSync('/sys/kernel/mm/transparent_hugepage');

describe.skipIf(!hasHugePages)('the heap', () => {
  it('asks for huge pages where it grows', () => {
    torch.scope(() => {
      torch.zeros([48 << 20]); // 192 MiB: the heap has to grow
      const heap = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
      const flags = heap
        .filter((mapping) => mapping.includes('[heap]'))
        .map((mapping) => /^VmFlags:.*$/m.exec(mapping)?.[0]);
      expect(flags.some((line) => line?.split(' ').includes('hg'))).toBe(true);
    });
  });
});
