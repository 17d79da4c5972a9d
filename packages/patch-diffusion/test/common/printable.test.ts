import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { oneLine, printable } from '../../src/common/printable.js';

describe('printable text', () => {
  it('shows control characters and reversed text as escapes, and leaves everything else', () => {
    expect(printable('\u001b]52;c;QQ==\u0007 \u009b31m \u202egnp.exe \u007f\r')).toBe(
      '\\u001b]52;c;QQ==\\u0007 \\u009b31m \\u202egnp.exe \\u007f\\u000d',
    );
    expect(printable('Füchse 狐 🦊\n\tσ ≥ 1')).toBe('Füchse 狐 🦊\n\tσ ≥ 1');
  });

  it('keeps JSON valid and its values the same', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        const shown = printable(JSON.stringify({ [text]: [text] }));
        expect(JSON.parse(shown)).toEqual({ [text]: [text] });
      }),
    );
  });

  it('is one line where a message must be', () => {
    expect(oneLine(' a\n  b\r\nc\rd\u2028e ')).toBe('a b c d e');
  });
});
