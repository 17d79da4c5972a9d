/**
 * Finds the built addon for the libtorch of this machine: what the loader asks on every start.
 *
 * Quick (a few hashes, no process started unless LIBTORCH_USE_PYTORCH=1) and without loading anything.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from './errors.js';
import { type Host, setupCommand, thisHost } from './host.js';
import type { Libtorch } from './libtorch.js';
import { describeAttempts, type FoundLibtorch, locateLibtorch, type Search } from './locate.js';
import { makeRecipe } from './recipe.js';
import { libtorchRemedies } from './remedies.js';

/** The addon and the libtorch that it was built for. */
export interface LocatedAddon {
  /** Path of `torch.node`. */
  readonly addon: string;
  readonly libtorch: FoundLibtorch;
}

/** File name of the addon inside its build folder. */
export const ADDON_FILE = 'torch.node';

/** Where builds may lie, the best place first: in the package, else in the user's cache. */
export function buildDirs(host: Host): string[] {
  return [join(host.packageDir, 'build'), join(host.cacheDir, 'build')];
}

/** Path of the finished build for a libtorch, if there is one. */
export function findBuild(host: Host, libtorch: Libtorch): string | undefined {
  return buildDirs(host)
    .map((dir) => join(dir, makeRecipe(host, libtorch, dir).key, ADDON_FILE))
    .find((path) => existsSync(path));
}

/**
 * The addon to load.
 *
 * @throws SetupError saying what was tried for libtorch and which command fixes it: `LIBTORCH_NOT_FOUND`,
 * `LIBTORCH_TOO_OLD`, `ADDON_NOT_BUILT`.
 */
export function locateAddon(host: Host = thisHost()): LocatedAddon {
  const search = locateLibtorch(host);
  if (!search.libtorch) throw libtorchMissing(host, search);
  const addon = findBuild(host, search.libtorch);
  if (!addon) {
    const { version, root, origin } = search.libtorch;
    throw new SetupError(
      'ADDON_NOT_BUILT',
      `The native addon is not built for libtorch ${version} (${root}, from: ${origin}). Run: ${setupCommand(host)}`,
    );
  }
  return { addon, libtorch: search.libtorch };
}

/** The error for a search that found nothing; `canFetch` is false once fetching was tried and failed. */
export function libtorchMissing(host: Host, search: Search, canFetch = true): SetupError {
  const tried = `Tried, in this order:\n${describeAttempts(search.tried)}`;
  if (search.wrongVariable) {
    const what = search.tried.find((attempt) => attempt.what.startsWith(search.wrongVariable!))!;
    const advice =
      search.wrongVariable === 'LIBTORCH'
        ? 'Set LIBTORCH to a folder that holds include/ and lib/ (such as that of a Python torch), or unset it to have libtorch searched or downloaded'
        : 'Install torch for that Python, or unset the variable';
    const where = what.path ? ` at ${what.path}` : '';
    return new SetupError(
      search.tooOld.length ? 'LIBTORCH_TOO_OLD' : 'LIBTORCH_NOT_FOUND',
      `${search.wrongVariable} is set, but there is no usable libtorch${where}: ${what.result}. ${advice}. Then run: ${setupCommand(host)}`,
    );
  }
  const code = search.tooOld.length ? 'LIBTORCH_TOO_OLD' : 'LIBTORCH_NOT_FOUND';
  const remedy = canFetch
    ? `Run: ${setupCommand(host)}  (it gets one, and builds the addon)`
    : libtorchRemedies(host);
  return new SetupError(code, `No usable libtorch was found. ${tried}\n${remedy}`);
}
