/** Debian's and Ubuntu's `libtorch-dev`: which version apt would install, and installing it. */
import { spawnSync } from 'node:child_process';
import { getuid } from 'node:process';
import { findProgram, type Host } from './host.js';
import { compareVersions, OLDEST_LIBTORCH } from './libtorch.js';
import { collect, type FetchOutcome, lastError } from './processes.js';

const inEnglish = (host: Host) => ({ ...host.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' });

/** The version of `libtorch-dev` that apt would install, or undefined where its lists know none. */
export function aptCandidate(host: Host): string | undefined {
  const aptCache = findProgram(host, 'apt-cache');
  if (!aptCache) return undefined;
  const { stdout } = spawnSync(aptCache, ['policy', 'libtorch-dev'], {
    encoding: 'utf8',
    env: inEnglish(host),
  });
  // Such as `Candidate: 1.13.1+dfsg-4`; `(none)` where there is a record but no source.
  return /^ *Candidate: (?:\d+:)?(\d\S*)/m.exec(stdout ?? '')?.[1];
}

/** True for a version that the addon cannot use. */
export function isTooOld(version: string | undefined): boolean {
  return version !== undefined && compareVersions(version, OLDEST_LIBTORCH) < 0;
}

/** Installs it where it is new enough; only as root, never through sudo behind the user's back. */
export async function installByApt(host: Host, log: (line: string) => void): Promise<FetchOutcome> {
  if (host.platform !== 'linux' || !findProgram(host, 'apt-get')) {
    return { ok: false, report: "the distribution's package: no apt-get on this system" };
  }
  if (getuid?.() !== 0) return { ok: false, report: "the distribution's package: apt-get needs root" };
  const limits = ['-o', 'Acquire::Retries=0', '-o', 'Acquire::http::Timeout=10'];
  const env = inEnglish(host);
  const install = ['install', '--no-install-recommends', ...limits, 'libtorch-dev'];
  let version = aptCandidate(host);
  if (!version) {
    log("  Updating the distribution's package lists …");
    await collect('apt-get', ['update', ...limits], env);
    version = aptCandidate(host);
  }
  if (!version) return { ok: false, report: "the distribution's package: apt-get knows no libtorch-dev" };
  if (isTooOld(version)) {
    return {
      ok: false,
      report: `the distribution's package: libtorch-dev ${version} is too old (${OLDEST_LIBTORCH} or newer is needed)`,
    };
  }
  const plan = spawnSync('apt-get', ['--assume-no', ...install], { encoding: 'utf8', env });
  const size = /Need to get ([^\n]*?) of archives/.exec(plan.stdout)?.[1];
  log(`Installing the distribution's libtorch-dev ${version} through apt-get (download ${size ?? 'none'}) …`);
  const { code, output } = await collect('apt-get', ['--assume-yes', ...install], env);
  return code === 0
    ? { ok: true, report: 'installed libtorch-dev' }
    : { ok: false, report: `the distribution's package: ${lastError(output)}` };
}
