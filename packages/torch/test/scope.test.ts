import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';

let before = 0;
beforeEach(() => {
  before = torch.liveTensors();
});
const live = () => torch.liveTensors() - before;

describe('scope', () => {
  it('frees all but the result', () => {
    const y = torch.scope(() => {
      const x = torch.ones([2]);
      x.add(1).mul(3);
      return x.add(2);
    });
    expect(live()).toBe(1);
    expect(y.item === undefined || y.sum().item()).toBe(6);
    y.dispose();
  });

  it('finds results deep in arrays, objects, Maps and Sets, even in circles', () => {
    const circle: { self?: unknown; t?: torch.Tensor } = {};
    circle.self = circle;
    const result = torch.scope(() => {
      circle.t = torch.ones([1]);
      torch.zeros([5]);
      return {
        list: [torch.ones([1]), [torch.ones([1])]],
        map: new Map([['a', torch.ones([1])]]),
        set: new Set([torch.ones([1])]),
        circle,
        bytes: new Uint8Array(4),
        nothing: null,
      };
    });
    expect(live()).toBe(5);
    const all = [result.list[0], (result.list[1] as torch.Tensor[])[0], result.map.get('a'), circle.t];
    for (const t of [...all, ...result.set]) (t as torch.Tensor).dispose();
    expect(live()).toBe(0);
  });

  it('hands results to the scope around it', () => {
    let inner: torch.Tensor | undefined;
    torch.scope(() => {
      inner = torch.scope(() => torch.ones([1]));
      expect(inner.isDisposed).toBe(false);
      expect(live()).toBe(1);
    });
    expect(inner?.isDisposed).toBe(true);
    expect(live()).toBe(0);
  });

  it('spares what is kept, through any number of scopes', () => {
    let kept: torch.Tensor | undefined;
    torch.scope(() => {
      torch.scope(() => {
        kept = torch.keep(torch.ones([1]));
        torch.keep(kept);
      });
    });
    expect(kept?.item()).toBe(1);
    kept?.dispose();
    expect(live()).toBe(0);
  });

  it('leaves tensors of outside alone, also when they are returned', () => {
    const x = torch.ones([1]);
    expect(torch.scope(() => x)).toBe(x);
    expect(x.isDisposed).toBe(false);
    x.dispose();
  });

  it('does not mind tensors disposed early, or twice', () => {
    torch.scope(() => {
      const x = torch.ones([1]);
      x.dispose();
      x.dispose();
      {
        using y = torch.ones([1]);
        expect(y.isDisposed).toBe(false);
      }
      expect(live()).toBe(0);
    });
    expect(live()).toBe(0);
  });

  it('frees everything when the function throws', () => {
    expect(() =>
      torch.scope(() => {
        torch.ones([1]);
        torch.scope(() => {
          torch.ones([1]);
          throw new Error('mine');
        });
      }),
    ).toThrow('mine');
    expect(live()).toBe(0);
    const after = torch.ones([1]);
    expect(after.isDisposed).toBe(false);
    after.dispose();
  });

  it('refuses asynchronous functions', () => {
    const run = () =>
      torch.scope(async () => {
        torch.ones([1]);
      });
    expect(run).toThrow(/scope: the function returned a promise/);
    expect(() => torch.noGrad(async () => 1)).toThrow(/noGrad: the function returned a promise/);
    expect(torch.isGradEnabled()).toBe(true);
    expect(live()).toBe(0);
  });

  it('can be stepped out of', () => {
    let outside: torch.Tensor | undefined;
    torch.scope(() => {
      outside = torch.unscoped(() => torch.ones([1]));
    });
    expect(outside?.isDisposed).toBe(false);
    outside?.dispose();
  });

  it('frees exactly what is not returned, in any nesting (property)', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(5), fc.nat(5)), { minLength: 1, maxLength: 5 }),
        (levels: [number, number][]) => {
          const start = torch.liveTensors();
          const nest = (depth: number): torch.Tensor[] =>
            torch.scope(() => {
              const [returned, dropped] = levels[depth];
              for (let i = 0; i < dropped; i++) torch.zeros([1]);
              const mine = Array.from({ length: returned }, () => torch.zeros([1]));
              const below = depth + 1 < levels.length ? nest(depth + 1) : [];
              return [...mine, ...below];
            });
          const result = nest(0);
          const expected = levels.reduce((sum, [returned]) => sum + returned, 0);
          expect(torch.liveTensors() - start).toBe(expected);
          for (const t of result) t.dispose();
          expect(torch.liveTensors()).toBe(start);
        },
      ),
      { numRuns: 50 },
    );
  });
});

describe('counters', () => {
  it('count storages once', () => {
    torch.scope(() => {
      const start = torch.nativeBytes();
      const x = torch.zeros([1024]);
      const view = x.reshape([32, 32]);
      expect(view.sharesStorage(x)).toBe(true);
      expect(torch.nativeBytes() - start).toBe(4096);
    });
  });
});
