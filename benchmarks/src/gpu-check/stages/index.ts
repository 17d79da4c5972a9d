/** The stages' work by name. Each module is loaded by its own stage only. */
import { GOLDEN_FOLDERS } from '../golden-folders.js';
import type { StageWork } from './context.js';

export const stageWork: Readonly<Record<string, StageWork>> = {
  build: async (context) => (await import('./build.js')).build(context),
  agreement: async (context) => (await import('./networks.js')).agreement(context),
  precisions: async (context) => (await import('./networks.js')).precisions(context),
  determinism: async (context) => (await import('./training.js')).determinism(context),
  waits: async (context) => (await import('./training.js')).waits(context),
  graphs: async (context) => (await import('./training.js')).graphs(context),
  generation: async (context) => (await import('./generation.js')).generation(context),
  runs: async (context) => (await import('./runs.js')).runs(context),
  steps: async (context) => (await import('./speed.js')).steps(context),
  sampling: async (context) => (await import('./speed.js')).sampling(context),
  compiled: async (context) => (await import('./speed.js')).compiled(context),
  ...Object.fromEntries(
    GOLDEN_FOLDERS.map((folder): [string, StageWork] => [
      `golden/${folder}`,
      async (context) => (await import('./golden.js')).golden(folder, context),
    ]),
  ),
};
