/** The commands that mend a missing libtorch or compiler, for the system at hand. */
import { distribution, type Host, setupCommand } from './host.js';

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

/** What to run where no libtorch could be found or fetched. */
export function libtorchRemedies(host: Host): string {
  const again = setupCommand(host);
  const family = familyOf(host);
  const byPip = `python3 -m venv ~/torch && ~/torch/bin/pip install torch && LIBTORCH_USE_PYTORCH=1 PATH=~/torch/bin:$PATH ${again}`;
  const lines = family === 'other' ? [byPip] : [`${PACKAGE_OF[family]} && ${again}`, byPip];
  lines.push(`LIBTORCH=/path/to/libtorch ${again}   (an unpacked libtorch, or the folder of a Python torch)`);
  return `To mend it, run one of:\n${lines.map((line) => `  ${line}`).join('\n')}`;
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
