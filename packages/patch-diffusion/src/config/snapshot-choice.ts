/** Which snapshot of a run a command takes. */
import * as f from './fields.js';

const SNAPSHOT_CHOICES = ['newest', 'best'] as const;
export type SnapshotChoice = (typeof SNAPSHOT_CHOICES)[number];

/** For every command with `--run`. */
export const snapshotChoice = f.choice(
  'Which snapshot of the run: the newest, or that with the lowest held-out loss (of its evaluations, else of its ticks)',
  SNAPSHOT_CHOICES,
  { default: 'newest' },
);
