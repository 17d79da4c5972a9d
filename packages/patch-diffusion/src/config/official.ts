/**
 * Options of the official tools that have no counterpart of their own here. Where the value asks for what this
 * program does anyway, they are accepted; where they only concern the official program's machinery, they are
 * accepted with a note; otherwise the error says what to do instead.
 */

import { usageError } from '../common/errors.js';
import { foldName, toBoolean } from './read-values.js';

interface OfficialOption {
  readonly name: string;
  readonly placeholder: string;
  /** Values that ask for what happens anyway; absent: every value is accepted, with the note. */
  readonly accepts?: readonly string[];
  /** Ends the error message, or is the note. */
  readonly text: string;
  /** What the option is here, by its truth value. */
  readonly means?: readonly [name: string, whenTrue: string, whenFalse: string];
}

export const officialTrainOptions: readonly OfficialOption[] = [
  {
    name: 'fp16',
    placeholder: 'bool',
    text: 'use --precision',
    means: ['precision', 'fp16', 'fp32'],
  },
  {
    name: 'progressive',
    placeholder: 'bool',
    text: 'use --schedule',
    means: ['schedule', 'progressive', 'stochastic'],
  },
  { name: 'cache', placeholder: 'bool', text: 'has no effect here; decoded images are kept in memory' },
  { name: 'bench', placeholder: 'bool', text: 'has no effect here' },
  { name: 'workers', placeholder: 'n', text: 'has no effect here; images are decoded by a pool of threads' },
];

export const officialGenerateOptions: readonly OfficialOption[] = [
  { name: 'resolution', placeholder: 'px', text: 'is taken from the network; --image-size sets the window' },
  {
    name: 'on-latents',
    placeholder: 'bool',
    text: 'is known from the network; --autoencoder says where the decoder is',
  },
  {
    name: 'embed-fq',
    placeholder: 'n',
    accepts: ['0', '0.0'],
    text: 'no published network takes it; leave it out',
  },
];

/**
 * Takes the official-only options out of the flags.
 *
 * @returns the other flags, and notes for the user
 * @throws {UserError} (exit code 2) when one asks for something else than what this program does
 */
export function takeOfficialOptions(
  flags: Readonly<Record<string, unknown>>,
  official: readonly OfficialOption[],
): { flags: Record<string, unknown>; notes: string[] } {
  const rest: Record<string, unknown> = {};
  const notes: string[] = [];
  for (const [name, value] of Object.entries(flags)) {
    const folded = foldName(name);
    const option = official.find((o) => o.name === folded);
    if (option === undefined) rest[name] = value;
    else if (option.means !== undefined) {
      const [key, whenTrue, whenFalse] = option.means;
      if (Object.keys(flags).some((other) => foldName(other) === foldName(key))) {
        throw usageError(
          'OPTION_GIVEN_TWICE',
          `--${folded} and --${foldName(key)} are the same option; give one of them`,
        );
      }
      const isTrue = toBoolean(String(value));
      if (isTrue === undefined) {
        throw usageError('BAD_OPTION', `--${folded}: "${value}" is not allowed; use true or false`);
      }
      rest[key] = isTrue ? whenTrue : whenFalse;
    } else if (option.accepts === undefined) notes.push(`--${folded} ${option.text}`);
    else if (!option.accepts.includes(String(value).toLowerCase())) {
      throw usageError('NOT_SUPPORTED', `--${folded} ${String(value)} is not supported: ${option.text}`);
    }
  }
  return { flags: rest, notes };
}
