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
import { buildAddon, discardBuild, loadProblem } from './build.js';
import { explainFileError, SetupError } from './errors.js';
import { fetchByPip, fetchLibtorch } from './fetch.js';
import { type Host, setupCommand, thisHost } from './host.js';
import { type FoundLibtorch, locateLibtorch, type Search } from './locate.js';

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
  /**
   * Download the newest torch wheel into `.libtorch/` even where the system has a libtorch; not where one is there
   * already, or where a variable or an active environment takes precedence.
   */
  fetch?: boolean;
  /** The machine; this one when absent. */
  host?: Host;
}

/**
 * Makes sure that there is a libtorch and an addon built for it; a no-op, in less than a second,
 * where both are there and the addon loads.
 *
 * @throws SetupError naming what was tried and the command that fixes it.
 */
export async function setup(options: SetupOptions = {}): Promise<LocatedAddon> {
  const { log = () => undefined, host = thisHost() } = options;
  if (host.platform !== 'linux' && host.platform !== 'darwin') {
    throw new SetupError(
      'PLATFORM_UNSUPPORTED',
      `The native addon builds on Linux and macOS, not on ${host.platform}. On Windows, use WSL (wsl --install).`,
    );
  }
  try {
    const libtorch = await findOrFetch(host, options.fetch ?? false, log);
    const built = findBuild(host, libtorch);
    const problem = built && loadProblem(built);
    if (built && !problem) return { addon: built, libtorch };
    if (problem) {
      log(`The addon that was built earlier does not load (${problem}); building it again.`);
      discardBuild(host, libtorch);
    }
    return { addon: await buildAddon(host, libtorch, log), libtorch };
  } catch (error) {
    throw explainFileError(error, setupCommand(host));
  }
}

async function findOrFetch(host: Host, fetch: boolean, log: (line: string) => void): Promise<FoundLibtorch> {
  let search = locateLibtorch(host);
  if (fetch) {
    const reason = reasonNotToFetch(search);
    if (reason) log(`Nothing is downloaded: ${reason}.`);
    else {
      const { ok, report } = await fetchByPip(host, log);
      if (!ok) log(`  ${report}; continuing with what is there.`);
      search = locateLibtorch(host);
    }
  }
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

/** Why a download would not be used: there is one already, or something else takes precedence. */
function reasonNotToFetch({ libtorch, wrongVariable }: Search): string | undefined {
  if (wrongVariable) return `${wrongVariable} is set and comes first`;
  if (!libtorch) return undefined;
  const { origin, version, root } = libtorch;
  switch (origin) {
    case 'project':
    case 'user cache':
      return `${root} holds libtorch ${version} already (remove that folder to get the newest)`;
    case 'LIBTORCH':
    case 'LIBTORCH_USE_PYTORCH':
      return `${origin} is set and comes first (unset it to have a download used)`;
    case 'virtual environment':
    case 'conda environment':
      return `the torch of the active ${origin} comes first (deactivate it to have a download used)`;
    default:
      return undefined;
  }
}
