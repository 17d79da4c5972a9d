import { describe, expect, it } from 'vitest';
import { labelRecord, labelsToDraw, labelText } from '../../src/data/sample-labels.js';
import type { Label } from '../../src/diffusion/labels.js';

const set = (labels: readonly Label[], labelDim: number) => ({
  labelDim,
  baseLength: labels.length,
  labelOf: (index: number) => labels[index] ?? null,
});

describe('labels that samples are drawn from', () => {
  it('are all classes where all have images', () => {
    expect(labelsToDraw(set([2, 0, 1, 1], 3), 0)).toBeNull();
    expect(labelsToDraw(set([], 0), 0)).toBeNull();
  });

  it('are the classes that have images', () => {
    expect(labelsToDraw(set([7, 1, 7, 7], 8), 0)).toEqual([1, 7]);
  });

  it('are the distinct label vectors', () => {
    const vectors = [
      [0.3, 103],
      [0.3, 103],
      [0.25, -7],
      [Math.fround(0.3), 103],
    ];
    const drawn = labelsToDraw(set(vectors, 2), 5)!;
    expect([...drawn].sort()).toEqual([
      [0.25, -7],
      [0.3, 103],
    ]);
    expect(labelsToDraw(set(vectors, 2), 5)).toEqual(drawn);
  });

  it('are a bounded number of vectors, chosen by seed', () => {
    const many = Array.from({ length: 3000 }, (_, i) => [i, 1]);
    const [a, b] = [labelsToDraw(set(many, 2), 1)!, labelsToDraw(set(many, 2), 2)!];
    expect(a).toHaveLength(1000);
    expect(new Set(a.map(String)).size).toBe(1000);
    expect(a).not.toEqual(b);
    const long = Array.from({ length: 300 }, (_, i) => Array.from({ length: 1000 }, () => i));
    expect(labelsToDraw(set(long, 1000), 0)).toHaveLength(100);
  });

  it('keep every float32 exactly', () => {
    const values = [Math.fround(1 / 3), Math.fround(Math.PI), 16_777_215, 1e-40, Math.fround(1e30)];
    const drawn = labelsToDraw(set([values], 5), 0)![0] as number[];
    expect(Float32Array.from(drawn)).toEqual(Float32Array.from(values));
  });
});

it('a label is recorded with the name of its class', () => {
  const record = labelRecord(1, ['cat', 'dog']);
  expect(record).toEqual({ class: 1, name: 'dog' });
  expect(labelText(record)).toEqual({ Class: '1', 'Class name': 'dog' });
  expect(labelText(labelRecord(1, null))).toEqual({ Class: '1' });
  expect(labelText(labelRecord([0.3, 103], null))).toEqual({ Label: '0.3,103' });
});
