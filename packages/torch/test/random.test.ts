import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';

const draw = (generator?: torch.Generator) =>
  torch.scope(() => [
    ...torch.randn([37], { generator }).toFloat32Array(),
    ...torch.rand([5], { generator }).toFloat32Array(),
    ...torch.randn([3]).normal_(0, 1, { generator }).toFloat32Array(),
  ]);

describe('Generator', () => {
  it('repeats itself from its seed', () => {
    const a = new torch.Generator('cpu', 42);
    const first = draw(a);
    expect(draw(a)).not.toEqual(first);
    expect(draw(a.manualSeed(42))).toEqual(first);
    expect(draw(new torch.Generator('cpu', 42n))).toEqual(first);
    expect(a.seed).toBe(42n);
    expect(a.device).toBe('cpu');
  });

  it('continues exactly from a saved state', () => {
    const a = new torch.Generator('cpu', 7);
    draw(a);
    const state = a.getState();
    const rest = draw(a);
    expect(draw(new torch.Generator('cpu', 0).setState(state))).toEqual(rest);
    expect(draw(a.setState(state))).toEqual(rest);
    expect(() => a.setState(new Uint8Array(3))).toThrow(torch.TorchError);
    expect(() => a.setState([1] as never)).toThrow(/must be a Uint8Array/);
  });

  it('does not disturb the default one', () => {
    torch.manualSeed(5);
    const first = torch.scope(() => torch.rand([1]).item());
    torch.manualSeed(5);
    torch.scope(() => torch.randn([9], { generator: new torch.Generator() }));
    expect(torch.scope(() => torch.rand([1]).item())).toBe(first);
    const standard = torch.Generator.default();
    const state = standard.getState();
    const next = torch.scope(() => torch.rand([1]).item());
    standard.setState(state);
    expect(torch.scope(() => torch.rand([1]).item())).toBe(next);
  });

  it('draws what PyTorch draws', () => {
    // torch.manual_seed(0); torch.rand(3), torch.randn(3)
    torch.manualSeed(0);
    torch.scope(() => {
      expect([...torch.rand([3]).toFloat32Array()]).toEqual([
        ...new Float32Array([0.49625658988952637, 0.7682217955589294, 0.08847743272781372]),
      ]);
      const generator = new torch.Generator('cpu', 0);
      expect(torch.randn([1], { generator }).item()).toBeCloseTo(1.5409960746765137, 6);
    });
  });

  it('serves the operators that only newer schemas give one to', () => {
    const x = torch.zeros([4]);
    const a = torch.scope(() => [
      ...x.randnLike({ generator: new torch.Generator('cpu', 1) }).toFloat32Array(),
    ]);
    const b = torch.scope(() => [
      ...torch.randn([4], { generator: new torch.Generator('cpu', 1) }).toFloat32Array(),
    ]);
    expect(a).toEqual(b);
    x.dispose();
  });

  it('checks seeds', () => {
    expect(() => torch.manualSeed(-1)).toThrow(/non-negative integer/);
    expect(() => torch.manualSeed(1.5)).toThrow(/non-negative integer/);
    expect(() => torch.randn([1], { generator: {} as never })).toThrow(/expected a Generator/);
    torch.manualSeed(2n ** 64n - 1n);
  });
});

describe('worker threads', () => {
  it('load the addon too, with tables of their own', async () => {
    const run = () =>
      new Promise<{ sum: number; live: number; foreign: string }>((resolve, reject) => {
        const worker = new Worker(fileURLToPath(new URL('./fixtures/worker.mjs', import.meta.url)));
        worker.once('message', resolve);
        worker.once('error', reject);
      });
    torch.scope(() => torch.ones([1])); // load here first
    const results = await Promise.all([run(), run()]);
    for (const result of results) expect(result).toEqual({ sum: 12, live: 1, foreign: 'ERR_TORCH_DISPOSED' });
  });
});
