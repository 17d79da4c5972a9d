/** Compares the networks of a saved state and of the run that resumes it. */
import { kebab } from '../config/read-values.js';
import { type TrainOptions, trainFields } from '../config/train-options.js';
import { DEFAULT_SIGMA_DATA } from '../diffusion/noise-levels.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';

/** Options that decide fields of other names. */
const OPTION_OF: Readonly<Record<string, keyof TrainOptions>> = {
  type: 'precond',
  'network.type': 'arch',
  'network.embeddingType': 'arch',
  'network.encoderType': 'arch',
  'network.decoderType': 'arch',
  'network.channelMultNoise': 'arch',
  'network.resampleFilter': 'arch',
  'network.imgResolution': 'resolution',
  'image.height': 'resolution',
  'image.width': 'resolution',
  'network.inChannels': 'channels',
  'network.outChannels': 'channels',
  'network.labelDim': 'cond',
  'network.augmentDim': 'augment',
};

/**
 * The first field in which two descriptions of a network differ, in words: `dropout 0.1, not 0.2 (--dropout)`; null where
 * they mean the same. The order of the fields does not count, nor whether a default is written out.
 */
export function specDifference(saved: unknown, current: PrecondSpec): string | null {
  const [before, now] = [fieldsOf(saved), fieldsOf(current)];
  const path = [...new Set([...before.keys(), ...now.keys()])].find(
    (key) => JSON.stringify(before.get(key) ?? null) !== JSON.stringify(now.get(key) ?? null),
  );
  if (path === undefined) return null;
  const name = path.split('.').at(-1)!;
  const show = (value: unknown) => (value === undefined ? 'none' : String(value));
  const option = OPTION_OF[path] ?? (Object.hasOwn(trainFields, name) ? name : null);
  const flag = option === null ? '' : ` (--${kebab(option)})`;
  return `${name} ${show(before.get(path))}, not ${show(now.get(path))}${flag}`;
}

/** The fields by path. What is null, false or 0 counts as absent. */
function fieldsOf(spec: unknown): Map<string, unknown> {
  const fields = new Map<string, unknown>();
  const collect = (value: unknown, path: string): void => {
    if (value === null || typeof value !== 'object' || Array.isArray(value)) {
      if (value) fields.set(path, value);
      return;
    }
    for (const [key, inner] of Object.entries(value)) collect(inner, path === '' ? key : `${path}.${key}`);
  };
  const given = Object(spec) as Partial<PrecondSpec>;
  const side = given.network?.imgResolution;
  collect({ sigmaData: DEFAULT_SIGMA_DATA, image: { height: side, width: side }, ...given }, '');
  return fields;
}
