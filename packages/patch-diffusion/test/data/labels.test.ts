import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseDatasetJson, resolveLabels } from '../../src/data/labels.js';
import { classifyName, compareNames, comparePaths, preparedName } from '../../src/data/names.js';

const name = fc.string({ minLength: 1, maxLength: 12 });

describe('dataset.json', () => {
  it('gives back what was written', () => {
    fc.assert(
      fc.property(fc.dictionary(name, fc.nat(20), { minKeys: 1, noNullPrototype: true }), (labels) => {
        const parsed = parseDatasetJson(JSON.stringify({ labels: Object.entries(labels) }), 'x', 20);
        expect(Object.fromEntries(parsed!.labels)).toEqual(labels);
      }),
    );
  });

  it('never fails but with an error for people', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.json(),
          fc.jsonValue().map((labels) => JSON.stringify({ labels })),
          fc.string(),
        ),
        (text) => {
          try {
            parseDatasetJson(text, 'x', 20);
          } catch (error) {
            expect(error).toMatchObject({ name: 'UserError', code: 'DATA_LABELS' });
          }
        },
      ),
      { numRuns: 500 },
    );
  });

  it('may begin with a byte-order mark', () => {
    expect(parseDatasetJson('\uFEFF{"labels": [["a.png", 1]]}', 'x', 1)!.labels.get('a.png')).toBe(1);
  });

  it('is refused when it would take gigabytes of memory', () => {
    const text = `{"labels": [${'{},'.repeat(6_000_000)}{}]}`;
    expect(() => parseDatasetJson(text, 'dataset.json of x', 4)).toThrow(
      'dataset.json of x is far too large for 4 images; make it again, or remove it and train without classes',
    );
  });

  it.each([
    [[0, 5, 900_000, 7], undefined, 'have 4 classes, but the largest class index is 900000'],
    [[0, 1000], undefined, 'have 2 classes, but the largest class index is 1000'],
    [[0, 999], undefined, 1000],
    [[0, 1999], Array.from({ length: 2000 }, (_, i) => `class ${i}`), 2000],
    [Array.from({ length: 300 }, (_, i) => 9 * i), undefined, 2692],
  ])('class numbers %j', (numbers, classes, expected) => {
    const names = numbers.map((_, i) => `${i}.png`);
    const labels = names.map((name, i) => [name, numbers[i]]);
    const source = { path: 'x', names, datasetJson: JSON.stringify({ labels, classes }), classes: null };
    if (typeof expected === 'number') expect(resolveLabels(source)!.dim).toBe(expected);
    else expect(() => resolveLabels(source)).toThrow(expected);
  });

  it('is not made up from the folders of a prepared dataset', () => {
    const names = [0, 1000, 2000].map(preparedName);
    expect(resolveLabels({ path: 'x', names, datasetJson: null, classes: null })).toBeNull();
  });

  it('matches names however their accents are composed', () => {
    const source = {
      path: 'x',
      names: ['e\u0301.png'],
      datasetJson: '{"labels": [["é.png", 3]], "classes": ["a", "b", "c", "d", "e"]}',
      classes: null,
    };
    expect(resolveLabels(source)).toEqual({ dim: 5, classNames: ['a', 'b', 'c', 'd', 'e'], values: [3] });
  });
});

describe('names', () => {
  it('compares by code point, as Python does', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
        const points = (text: string) => Buffer.from(text, 'utf8'); // UTF-8 keeps the order of code points
        expect(Math.sign(compareNames(a, b))).toBe(Buffer.compare(points(a), points(b)));
      }),
    );
  });

  it('orders paths part by part', () => {
    const names = ['cat-wild/a', 'cat/z', 'cat', 'b/c/d', 'b/c'];
    expect([...names].sort(comparePaths)).toEqual(['b/c', 'b/c/d', 'cat', 'cat/z', 'cat-wild/a']);
    expect([...names].sort(compareNames)).toEqual(['b/c', 'b/c/d', 'cat', 'cat-wild/a', 'cat/z']);
  });

  it('knows images by their extension', () => {
    for (const name of ['a.JPG', 'b/c.tiff', 'x.y.png', 'saved.jfif', 'old.jpe']) {
      expect(classifyName(name)).toBe('image');
    }
    for (const name of ['a.apng', 'a.ppm', 'a.pgm', 'a.ico', 'a.bmp']) {
      expect(classifyName(name)).toMatchObject({ reason: expect.stringContaining('is not supported') });
    }
    expect(['a.txt', '.x/a.png', '__MACOSX/a.png', '.DS_Store'].map(classifyName)).toEqual(
      Array(4).fill(null),
    );
    expect(['png', 'a.', 'a.JPG_large', 'a.pef'].map(classifyName)).toEqual(Array(4).fill('unsure'));
    expect(classifyName('a.HEIC')).toEqual({ reason: expect.stringContaining('convert') });
    expect(preparedName(12345)).toBe('00012/img00012345.png');
  });
});
