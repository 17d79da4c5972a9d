/** All stages in their order: what everything needs first, then whether results are right, then how fast they are. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { GOLDEN_FOLDERS, IMAGE_SET, PACKED } from './golden-folders.js';
import type { Stage } from './run-stages.js';
import { runStageProcess } from './stage-process.js';

/** A stage, the time without which it is not begun, and why it is left out where it is. */
type Plan = readonly [name: string, needsSec: number, skip?: string | null];

const NO_VECTORS = 'the archive was packed without the recorded vectors';

function plans(device: string): Plan[] {
  const missing = (path: string): string | null =>
    existsSync(join(PACKED.golden, path)) ? null : NO_VECTORS;
  return [
    ['build', 0],
    ['agreement', 10],
    ...GOLDEN_FOLDERS.map((folder): Plan => [`golden/${folder}`, 5, missing(folder)]),
    ['precisions', 10],
    ['determinism', 10],
    ['generation', 10],
    ['waits', 10],
    ['graphs', 15],
    ['runs', 15, missing(IMAGE_SET)],
    ['steps', 45],
    ['sampling', 40],
    [
      'compiled',
      60,
      device === 'cpu' ? 'compiling takes minutes on a CPU and shows nothing about a GPU' : null,
    ],
  ];
}

export const stageNames: readonly string[] = plans('cuda').map(([name]) => name);

/** @param only names of stages, besides the build; empty: all */
export function stagesFor(device: string, logFile: string, only: readonly string[] = []): Stage[] {
  return plans(device)
    .filter(([name]) => only.length === 0 || name === 'build' || only.includes(name))
    .map(([name, needsSec, skip]) => ({
      ...{ name, needsSec, skip, isRequired: name === 'build' },
      run: (emit, limitSec) => runStageProcess([name, device], emit, limitSec, logFile),
    }));
}
