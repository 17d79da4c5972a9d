/** What a scenario is, and how its tries are counted. */
import type { Training } from './training.js';

export interface Scope {
  readonly training: Training;
  /** A short run: some tries of each scenario. */
  readonly quick: boolean;
  /** How many random kills; a twentieth when quick. */
  readonly kills: number;
  /** 0 … 1, from the seed. */
  readonly random: () => number;
}

/** One try: harms a run and goes on with it. Returns what was lost, or null. */
export type Try = () => Promise<string | null>;

/** The tries of a scenario, or why it cannot be tried here. */
export type Tries =
  | readonly { readonly name: string; readonly attempt: Try }[]
  | { readonly skipped: string };

export interface Scenario {
  readonly name: string;
  prepare(scope: Scope): Promise<Tries> | Tries;
}

/** Some of a list, evenly spread, the first and the last among them. */
export function spread<T>(items: readonly T[], count: number): T[] {
  if (items.length <= count) return [...items];
  const step = (items.length - 1) / (count - 1);
  return Array.from({ length: count }, (_, i) => items[Math.round(i * step)]);
}
