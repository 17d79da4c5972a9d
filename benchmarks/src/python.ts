/** Finds the Python that is measured against. Python runs isolated (`-I`) and outside the current folder. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as torch from '@patch-diffusion/torch';

/** Where the instructions of the error messages put the peer's environment; it is looked at by itself. */
const OWN_ENVIRONMENT = fileURLToPath(new URL('../../.libtorch/peer', import.meta.url));

/**
 * A Python whose torch is the very build that this process has loaded.
 * @throws Error saying which Pythons were tried, what was wrong with each, and how to get one
 */
export function pythonWithTorch(): string {
  const { libraryFolder, config, torch: version } = torch.version();
  // …/lib/python3.x/site-packages/torch/lib, in a virtual environment
  const environment = join(libraryFolder, '../../../../..', 'bin', 'python');
  const program = 'import torch; print(torch.__version__); print(torch.__config__.show())';
  return find(program, [environment], `torch==${version}`, (output) => {
    const [theirs, ...built] = output.split('\n');
    if (sameText(built.join('\n'), config)) return null;
    return `has torch ${theirs}, another build than the libtorch in use (${version})`;
  });
}

/** The script that runs in it: makes images, prepares them, compares. */
export const PILLOW_PEER = fileURLToPath(new URL('../peer/pillow.py', import.meta.url));

/** A Python with Pillow. @throws Error saying which Pythons were tried, and how to get one */
export function pythonWithPillow(): string {
  return find('import PIL; print(PIL.__version__)', [], 'pillow', () => null);
}

/** The first Python that runs the program with output that `fault` finds nothing wrong with. */
function find(
  program: string,
  first: readonly string[],
  needed: string,
  fault: (output: string) => string | null,
): string {
  const folders = [...first, join(OWN_ENVIRONMENT, 'bin', 'python')].filter((path) => existsSync(path));
  const candidates = process.env.PYTHON ? [process.env.PYTHON] : [...folders, 'python3', 'python'];
  const reasons: string[] = [];
  for (const python of candidates) {
    try {
      const output = execFileSync(python, ['-I', '-c', program], {
        cwd: tmpdir(),
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      const reason = fault(output);
      if (reason === null) return python;
      reasons.push(`${python} ${reason}`);
    } catch {
      reasons.push(`${python} has no ${needed.split('=')[0]}, or cannot be started`);
    }
  }
  throw new Error(
    [
      `no Python to measure against: ${reasons.join('; ')}.`,
      `  One is made by: python3 -m venv ${OWN_ENVIRONMENT} && ${join(OWN_ENVIRONMENT, 'bin', 'pip')} install ${needed}`,
      `  Or set PYTHON to one that is there already${needed === 'pillow' ? '' : ', or leave Python out with --no-peer'}.`,
    ].join('\n'),
  );
}

function sameText(a: string, b: string): boolean {
  return a.replace(/\s+/g, ' ').trim() === b.replace(/\s+/g, ' ').trim();
}
