import { describe, expect, it } from 'vitest';
import * as torch from '../src/index.js';

function failure(fn: () => unknown): torch.TorchError {
  try {
    torch.scope(fn);
  } catch (error) {
    if (error instanceof torch.TorchError) return error;
    throw error;
  }
  return expect.fail('nothing was thrown');
}

describe('TorchError', () => {
  it('names the operator, what is wrong and the shapes, in one line', () => {
    const error = failure(() => torch.conv2d(torch.zeros([1, 4, 8, 8]), torch.zeros([8, 3, 3, 3])));
    expect(error.message).toBe(
      'conv2d: Given groups=1, weight of size [8, 3, 3, 3], expected input[1, 4, 8, 8] to have 3 channels, but got 4 channels instead (input: float32[1, 4, 8, 8], weight: float32[8, 3, 3, 3])',
    );
    expect(error.code).toBe('ERR_TORCH');
    expect(error.op).toBe('conv2d');
    expect(error.shapes).toEqual([
      { name: 'input', dtype: 'float32', shape: [1, 4, 8, 8] },
      { name: 'weight', dtype: 'float32', shape: [8, 3, 3, 3] },
    ]);
  });

  it('covers element types and lists of tensors', () => {
    const types = failure(() => torch.zeros([2, 2]).matmul(torch.zeros([2, 2], { dtype: 'float64' })));
    expect(types.message).toMatch(/^matmul: .*\(self: float32\[2, 2\], other: float64\[2, 2\]\)$/);
    const list = failure(() => torch.cat(Array.from({ length: 6 }, (_, i) => torch.zeros([i + 1, i + 1]))));
    expect(list.message).toMatch(/^cat: .*tensors\[0\]: float32\[1, 1\].*… 6 in all\)$/);
    expect(list.message).not.toContain('\n');
  });

  it('says which argument is wrong, and how', () => {
    const x = torch.zeros([2, 2]);
    const bad = (fn: () => unknown) => failure(fn).message;
    expect(bad(() => x.sum(1.5))).toBe("sum: argument 'dim' must be an integer (self: float32[2, 2])");
    expect(bad(() => x.add('1' as never))).toBe(
      "add: argument 'other' must be a number (self: float32[2, 2])",
    );
    expect(bad(() => torch.matmul(x, undefined as never))).toBe(
      "matmul: argument 'other' (Tensor) is missing (self: float32[2, 2])",
    );
    expect(bad(() => torch.matmul(x, 3 as never))).toBe(
      "matmul: argument 'other' must be a Tensor (self: float32[2, 2])",
    );
    expect(bad(() => x.reshape(4 as never))).toMatch(/argument 'shape' must be an array of integers/);
    expect(bad(() => torch.mseLoss(x, x, 'median' as never))).toMatch(/'reduction' does not know 'median'/);
    expect(bad(() => torch.zeros([1], { dtype: 'float' as never }))).toMatch(/unknown dtype 'float'/);
    expect(bad(() => torch.zeros([1], { device: 'gpu' }))).toMatch(/^zeros: .*gpu/);
    expect(bad(() => torch.cat([x, null as never]))).toMatch(/^cat: /);
    expect(failure(() => x.sum(1.5)).code).toBe('ERR_TORCH_ARGUMENT');
    x.dispose();
  });

  it('catches tensors that were freed, by scope or by hand', () => {
    const stale = torch
      .scope(() => ({
        get: (
          (t) => () =>
            t
        )(torch.ones([1])),
      }))
      .get();
    for (const use of [
      () => stale.add(1),
      () => torch.ones([1]).add(stale),
      () => torch.cat([stale]),
      () => stale.shape,
      () => stale.item(),
      () => stale.backward(),
    ]) {
      const error = failure(use);
      expect(error.code).toBe('ERR_TORCH_DISPOSED');
      expect(error.message).toContain('keep() it to use it later');
    }
    expect(stale.isDisposed).toBe(true);
  });

  it('says so of one freed tensor in a long list', () => {
    torch.scope(() => {
      const list = Array.from({ length: 100 }, () => torch.zeros([1]));
      list[80].dispose();
      expect(() => torch.cat(list)).toThrow(expect.objectContaining({ code: 'ERR_TORCH_DISPOSED' }));
    });
  });

  it('survives absurd requests', () => {
    const error = failure(() => torch.empty([2 ** 40, 2 ** 10]));
    expect(error.code).toBe('ERR_TORCH_MEMORY');
    expect(error.message).toMatch(/^empty: DefaultCPUAllocator: can't allocate memory/);
    expect(failure(() => torch.empty([2 ** 62])).code).toMatch(/^ERR_TORCH/);
    expect(failure(() => torch.zeros([-1])).code).toBe('ERR_TORCH');
  });
});
