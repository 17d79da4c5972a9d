/**
 * Options of a run where files have a say: a resumed run brings its own options, and data that was prepared its
 * own size. `resolveTrainOptions` does the rest.
 */

import { presets } from '../config/presets.js';
import { foldName, nameTable } from '../config/read-values.js';
import { checkResumeOptions, resolveTrainOptions, type TrainSources } from '../config/resolve.js';
import { type TrainOptions, trainFields } from '../config/train-options.js';
import { importedNetwork, networkOptions } from '../interchange/imported-state.js';
import { findResume } from '../run/runs.js';

/**
 * Resolves the options of a run.
 *
 * @throws {UserError} on wrong options, on data that is not there, and when there is nothing to resume
 */
export async function resolveRunOptions(sources: TrainSources): Promise<TrainOptions> {
  const given = lookUp(sources, 'resume');
  if (given === true || (typeof given === 'string' && given !== 'none')) {
    const resume = given === true ? 'newest' : given;
    const imported = resume === 'newest' ? null : await importedNetwork(resume);
    if (imported) {
      // A new run, with the network of the state.
      return resolveTrainOptions({
        ...sources,
        call: { ...networkOptions(imported, resume), ...sources.call },
      });
    }
    const found = await findResume(resume, String(lookUp(sources, 'out') ?? presets.small.values.out));
    const base = found.json.config;
    // A folder stays a folder: its newest state is looked up once the run is locked.
    const from = found.state === resume ? found.state : found.runDir;
    const options = { ...resolveTrainOptions({ ...sources, base }), resume: from };
    checkResumeOptions(base, options);
    return options;
  }
  const options = resolveTrainOptions(sources);
  if (options.resolution !== null || (await isPrepared(options.data))) return options;
  const preset = presets[options.preset as keyof typeof presets];
  return resolveTrainOptions({ call: { ...options, resolution: preset.sidePx } });
}

/** The value of one option as the last of the sources gives it, before it is checked. */
function lookUp({ file, call, flags }: TrainSources, key: string): unknown {
  const names = nameTable(trainFields);
  for (const layer of [flags, call, file?.values]) {
    for (const [name, value] of Object.entries(layer ?? {})) {
      if (value !== undefined && names.get(foldName(name))?.key === key) return value;
    }
  }
  return undefined;
}

/** Has this data one size already? */
async function isPrepared(path: string): Promise<boolean> {
  const { isLatentPath } = await import('../data/latents.js');
  if (isLatentPath(path)) return true;
  const [{ openSource }, { isUniform }] = await Promise.all([
    import('../data/source.js'),
    import('../data/open-images.js'),
  ]);
  const source = await openSource(path);
  try {
    return isUniform(source);
  } finally {
    await source.close();
  }
}
