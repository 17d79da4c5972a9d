import { describe, expect, it } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { explainMemory, withMemoryGuard } from '../../src/common/memory.js';

describe('running out of memory', () => {
  it.each([
    "[enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
    'DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes',
    'CUDA out of memory. Tried to allocate 2.00 GiB',
    'std::bad_alloc',
    'could not create a primitive',
    'Array buffer allocation failed',
  ])('is told from %s', async (message) => {
    const work = withMemoryGuard('lower --batch', () => Promise.reject(new Error(message)));
    await expect(work).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: 'out of memory; lower --batch',
    });
  });

  it('is not seen in other errors, and not explained twice', () => {
    const other = new Error('conv2d: shapes differ');
    expect(explainMemory(other, 'lower --batch')).toBe(other);
    const inner = new UserError('OUT_OF_MEMORY', 'out of memory; lower --samples');
    expect(explainMemory(inner, 'lower --batch')).toBe(inner);
  });

  it('does not limit what is there', async () => {
    expect(await withMemoryGuard('lower --batch', async () => Buffer.alloc(64 * 2 ** 20).length)).toBe(
      2 ** 26,
    );
  });
});
