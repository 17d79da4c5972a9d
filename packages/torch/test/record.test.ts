import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';
import { collectGarbage } from './collect-garbage.js';

describe('recordOperators', () => {
  it('lists the calls with names, arguments and results', () => {
    torch.scope(() => {
      const x = torch.ones([2, 3]);
      const { result, calls } = torch.recordOperators(() => x.mul(2).chunk(2, 0)[1].add(x), [x]);
      expect(calls.map(({ operator, overload }) => [operator, overload])).toEqual([
        ['mul', 'Scalar'],
        ['chunk', ''],
        ['add', 'Tensor'],
      ]);
      const [mul, chunk, add] = calls;
      expect(mul.args).toEqual({
        self: { id: torch.tensorId(x), shape: [2, 3], dtype: 'float32' },
        other: 2,
      });
      expect(chunk.args.self).toEqual(mul.results[0]);
      expect(chunk.results.map(({ shape }) => shape)).toEqual([
        [1, 3],
        [1, 3],
      ]);
      expect(add.args.self).toEqual(chunk.results[1]);
      expect(add.results[0]).toEqual({ id: torch.tensorId(result), shape: [2, 3], dtype: 'float32' });
      expect([...result.toTypedArray()]).toEqual([3, 3, 3, 3, 3, 3]);
    });
  });

  it('keeps what depends on no input', async () => {
    await collectGarbage();
    const before = torch.liveTensors();
    torch.scope(() => {
      const x = torch.ones([2]);
      const { calls, constants } = torch.recordOperators(
        () => torch.scope(() => torch.arange(2, { dtype: 'float32' }).exp().mul(x)),
        [x],
      );
      const [arange, exp, mul] = calls.map(({ results }) => results[0].id);
      expect([...constants.keys()]).toEqual([arange, exp]);
      expect(constants.get(exp)?.toTypedArray()[1]).toBeCloseTo(Math.E, 6);
      expect(constants.has(mul)).toBe(false);
      for (const tensor of constants.values()) tensor.dispose();
    });
    expect(torch.liveTensors()).toBe(before);
  });

  it('takes a large number for a number', () => {
    torch.scope(() => {
      const x = torch.ones([1]);
      const { calls } = torch.recordOperators(() => x.mul(2 ** 40), [x]);
      expect(calls[0].args.other).toBe(2 ** 40);
    });
  });

  it('ends with the function, also when that fails', () => {
    torch.scope(() => {
      const x = torch.ones([1]);
      const nested = () => torch.recordOperators(() => torch.recordOperators(() => x, []), [x]);
      expect(nested).toThrow('another recording is under way');
      const { calls } = torch.recordOperators(() => x.neg(), [x]);
      x.exp();
      expect(calls).toHaveLength(1);
    });
  });
});
