/** The commands that install a missing libtorch or compiler on this system. */
import { aptCandidate, isTooOld } from './apt.js';
import { distribution, type Host, setupCommand, storeDirs } from './host.js';

type Family = 'macos' | 'debian' | 'fedora' | 'arch' | 'other';

function familyOf(host: Pick<Host, 'platform' | 'systemRoot'>): Family {
  if (host.platform === 'darwin') return 'macos';
  const ids = distribution(host);
  if (ids.includes('debian') || ids.includes('ubuntu')) return 'debian';
  if (ids.includes('fedora') || ids.includes('rhel')) return 'fedora';
  if (ids.includes('arch')) return 'arch';
  return 'other';
}

const PACKAGE_OF: Record<Exclude<Family, 'other'>, string> = {
  macos: 'brew install pytorch',
  debian: 'sudo apt-get install libtorch-dev',
  fedora: 'sudo dnf install python3-torch-devel',
  arch: 'sudo pacman -S python-pytorch',
};

/** What to run where no libtorch could be found or downloaded. */
export function libtorchRemedies(host: Host): string {
  const again = setupCommand(host);
  const family = familyOf(host);
  const ways = [
    `python3 -m pip install --target '${storeDirs(host)[0]}' torch && ${again}`,
    `export LIBTORCH=/path/to/libtorch && ${again}   (an unpacked libtorch, or the folder of a Python torch; the export also belongs in your shell's profile)`,
  ];
  const packaged = family !== 'other' && !(family === 'debian' && isTooOld(aptCandidate(host)));
  if (packaged) ways.unshift(`${PACKAGE_OF[family]} && ${again}`);
  return `To fix this, run one of:\n${ways.map((line) => `  ${line}`).join('\n')}`;
}

/** What to run where there is no C++ compiler. */
export function compilerRemedy(host: Host): string {
  const commands: Record<Family, string> = {
    macos: 'xcode-select --install',
    debian: 'sudo apt-get install g++',
    fedora: 'sudo dnf install gcc-c++',
    arch: 'sudo pacman -S gcc',
    other: 'your package manager for g++ or clang++',
  };
  const prefix = familyOf(host) === 'other' ? 'Install one with' : 'Run:';
  return `${prefix} ${commands[familyOf(host)]}  then: ${setupCommand(host)}`;
}
