/** Text from outside (names, metadata, messages of other programs) made safe to print on a terminal. */

/**
 * Control characters but newline and tab, and the marks that reverse the direction of text. A terminal obeys the
 * former: they can change its title, its colours and the clipboard; the latter make one name look like another.
 */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it looks for
const UNSAFE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** The text with such characters written as `\u001b`, which JSON reads back. Newlines and tabs stay. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A message on one line. */
export const oneLine = (text: string): string => text.trim().replace(/\s*[\r\n\u2028\u2029]+\s*/g, ' ');
