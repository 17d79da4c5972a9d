import { describe, expect, it } from 'vitest';
import { nearest, UserError } from '../../src/common/errors.js';

describe('nearest', () => {
  const options = ['resolution', 'batch', 'batchGpu', 'modelChannels', 'lr'];

  it('finds what was meant', () => {
    expect(nearest('resolutoin', options)).toBe('resolution');
    expect(nearest('res', options)).toBe('resolution');
    expect(nearest('batch-gpu', options)).toBe('batchGpu');
    expect(nearest('BATCH', options)).toBe('batch');
    expect(nearest('model_chanels', options)).toBe('modelChannels');
  });

  it('finds nothing when nothing is near', () => {
    expect(nearest('xyz', options)).toBeUndefined();
    expect(nearest('completely', [])).toBeUndefined();
  });
});

describe('UserError', () => {
  it('carries a code and an exit status', () => {
    const error = new UserError('X', 'message', { exitCode: 2, cause: 'why' });
    expect(error).toMatchObject({
      name: 'UserError',
      code: 'X',
      exitCode: 2,
      message: 'message',
      cause: 'why',
    });
    expect(new UserError('X', 'm').exitCode).toBe(1);
    expect('cause' in new UserError('X', 'm')).toBe(false);
  });
});
