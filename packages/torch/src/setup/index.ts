/**
 * Set-up of @patch-diffusion/torch: finds or gets libtorch, builds the native addon. Importing this never
 * loads the addon.
 *
 * ```ts
 * import { setup } from '@patch-diffusion/torch/setup';
 * const { addon, libtorch } = await setup({ log: console.log });
 * ```
 */
import { findBuild, type LocatedAddon, libtorchMissing } from './addon.js';
import { buildAddon } from './build.js';
import { SetupError } from './errors.js';
import { fetchByPip, fetchLibtorch, hasOwnCopy } from './fetch.js';
import { type Host, thisHost } from './host.js';
import { type FoundLibtorch, locateLibtorch } from './locate.js';
import { makeRecipe } from './recipe.js';

export { type LocatedAddon, locateAddon } from './addon.js';
export { type Advice, advise, type RuntimeFacts } from './advice.js';
export { SetupError, type SetupErrorCode } from './errors.js';
export { gatherMachineFacts, type MachineFacts } from './facts.js';
export { type Host, setupCommand, thisHost } from './host.js';
export { compareVersions, type Libtorch, OLDEST_LIBTORCH } from './libtorch.js';
export {
  type Attempt,
  describeAttempts,
  type FoundLibtorch,
  locateLibtorch,
  type Origin,
  type Search,
} from './locate.js';

/** What {@link setup} can be told. */
export interface SetupOptions {
  /** Gets a line for each thing that is done; nothing when all is there already. */
  log?: (line: string) => void;
  /** Get the newest torch wheel into `.libtorch/` even where another libtorch is found. */
  fetch?: boolean;
  /** The machine; this one when absent. */
  host?: Host;
}

/**
 * Makes sure that there is a libtorch and an addon built for it; a no-op, in milliseconds, where both are there.
 *
 * @throws SetupError naming what was tried and the command that mends it.
 */
export async function setup(options: SetupOptions = {}): Promise<LocatedAddon> {
  const { log = () => undefined, host = thisHost() } = options;
  if (host.platform !== 'linux' && host.platform !== 'darwin') {
    throw new SetupError(
      'PLATFORM_UNSUPPORTED',
      `The native addon builds on Linux and macOS, not on ${host.platform}. On Windows, use WSL (wsl --install).`,
    );
  }
  const libtorch = await findOrFetch(host, options.fetch ?? false, log);
  const recipe = makeRecipe(host, libtorch);
  const built = findBuild(host, recipe);
  if (built) return { addon: built, libtorch };
  return { addon: await buildAddon(host, libtorch, recipe, log), libtorch };
}

async function findOrFetch(host: Host, fetch: boolean, log: (line: string) => void): Promise<FoundLibtorch> {
  if (fetch && !host.env.LIBTORCH && !hasOwnCopy(host)) {
    const { ok, report } = await fetchByPip(host, log);
    if (!ok) log(`  ${report}; going on with what is there.`);
  }
  let search = locateLibtorch(host);
  if (!search.libtorch && !search.wrongVariable) {
    log('No libtorch was found on this machine.');
    const outcomes = await fetchLibtorch(host, log);
    search = locateLibtorch(host);
    if (!search.libtorch) {
      const fetched = outcomes.map(({ report }) => ({ what: 'getting one', result: report }));
      throw libtorchMissing(host, { ...search, tried: [...search.tried, ...fetched] }, false);
    }
  }
  if (!search.libtorch) throw libtorchMissing(host, search);
  return search.libtorch;
}
