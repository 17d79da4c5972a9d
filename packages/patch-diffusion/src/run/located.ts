/** The options of a run, with paths that are found from the present folder. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import type { TrainOptions } from '../config/train-options.js';
import type { RunJson } from './runs.js';

/** Paths stay as they are where nothing is found where the run was started. */
export function located({ config, workingFolder }: RunJson): TrainOptions {
  if (workingFolder === undefined || workingFolder === process.cwd()) return config;
  const find = (path: string) => {
    const there = resolve(workingFolder, path);
    return existsSync(there) ? there : path;
  };
  const { data, autoencoder } = config;
  return { ...config, data: find(data), autoencoder: autoencoder && find(autoencoder) };
}
