/** Command line of the benchmark. */
import { parseArgs } from 'node:util';
import { type PresetName, presetNames, resolveTrainOptions, type TrainOptions } from 'patch-diffusion';

/** A measurement's settings. */
export interface BenchOptions {
  readonly preset: PresetName;
  readonly train: TrainOptions;
  /** Images per full-size step; patch steps take their multiple, as in training. */
  readonly batch: number;
  /** Timed steps per patch size and side of the comparison. */
  readonly repeats: number;
  readonly device: string;
  /** Null: libtorch's own choice. */
  readonly threads: number | null;
  /** Memory order of our network's weights. */
  readonly channelsLast: boolean;
  readonly peer: boolean;
  readonly json: string | null;
  readonly quick: boolean;
}

export const HELP = `Measures training steps, convolutions and operator calls on this machine, and the same
training step in eager PyTorch (contiguous and channels-last) where a Python with the same
torch build is found.

Usage: npm run bench -- [options]

  --preset NAME      network and patch sizes (${presetNames.join(', ')}); default small
  --batch N          images per full-size step; default 16
  --repeats N        timed steps per patch size; default 9
  --device NAME      cpu or cuda; default cpu
  --threads N        CPU threads; default: all cores
  --channels-last    store our network's convolution weights channels-last
  --no-peer          leave PyTorch out
  --quick            batch 4, 3 repeats, fewer convolutions: a check that it runs, not a measurement
  --json FILE        also write all figures to FILE
  --help             this text

PYTHON names the Python whose torch is the peer; by default the one that libtorch belongs to, then python3.
`;

/**
 * @returns The options, or null when help was asked for.
 * @throws Error with a message for people if an option is unknown or out of range.
 */
export function parseOptions(argv: string[]): BenchOptions | null {
  const { values } = parseArgs({
    args: argv,
    options: {
      preset: { type: 'string', default: 'small' },
      batch: { type: 'string' },
      repeats: { type: 'string' },
      device: { type: 'string', default: 'cpu' },
      threads: { type: 'string' },
      'channels-last': { type: 'boolean', default: false },
      'no-peer': { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return null;
  const preset = presetNames.find((name) => name === values.preset);
  if (!preset) throw new Error(`--preset ${values.preset}: it must be one of ${presetNames.join(', ')}`);
  return {
    preset,
    train: resolveTrainOptions({ call: { data: 'synthetic', preset } }),
    batch: count('batch', values.batch) ?? (values.quick ? 4 : 16),
    repeats: count('repeats', values.repeats) ?? (values.quick ? 3 : 9),
    device: values.device,
    threads: count('threads', values.threads),
    channelsLast: values['channels-last'],
    peer: !values['no-peer'],
    json: values.json ?? null,
    quick: values.quick,
  };
}

function count(name: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`--${name} ${text}: it must be a whole number, at least 1`);
  return value;
}
