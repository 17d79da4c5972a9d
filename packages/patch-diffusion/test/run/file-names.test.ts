import { describe, expect, it } from 'vitest';
import { fileStamp, nimgInName } from '../../src/run/file-names.js';

describe('the number in names of files', () => {
  it.each([
    [0, '000000'],
    [250, '000000-250'],
    [10_000, '000010'],
    [10_007, '000010-007'],
    [1_234_567_890, '1234567-890'],
  ])('of %i images is %s, and is read again', (nimg, stamp) => {
    expect(fileStamp(nimg)).toBe(stamp);
    expect(nimgInName(`runs/00007-x/state/training-state-${stamp}.safetensors`)).toBe(nimg);
    expect(nimgInName(`fakes-${stamp}.png`)).toBe(nimg);
  });

  it.each([
    ['network-snapshot-000012.pkl', 12_000],
    ['copy-9.safetensors', 9000],
    ['a-000012-34.safetensors', 34_000],
    ['best.safetensors', -1],
  ])('is read from %s, too', (file, nimg) => {
    expect(nimgInName(file)).toBe(nimg);
  });
});
