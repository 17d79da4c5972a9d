/** Trained networks that come with the package, by name. What they are and how they were made: docs/models.md. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Their names, the smallest first. */
export const READY_MADE = ['avatars-16', 'avatars-32', 'fashion-32'] as const;

/**
 * The snapshot of a network that comes with the package; a file of that name in the present folder goes first.
 * @returns null for any other text
 */
export function readyMadeNetwork(name: string): string | null {
  if (!(READY_MADE as readonly string[]).includes(name) || existsSync(name)) return null;
  return fileURLToPath(new URL(`../../models/${name}.safetensors`, import.meta.url));
}
