/** Command line of the benchmark. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import {
  type PresetName,
  presetNames,
  presets,
  resolveTrainOptions,
  type TrainOptions,
} from 'patch-diffusion';
import { UsageError } from './usage-error.js';

/** Options that only some commands have. */
const ownOptions = [
  ...(['preset', 'batch', 'precision', 'threads', 'device', 'no-peer'] as const),
  ...(['bandwidth', 'latency', 'chart'] as const),
];
type OwnOption = (typeof ownOptions)[number];

/** What a command measures, which options only some commands have, and their defaults. */
interface Command {
  readonly summary: string;
  readonly takes: readonly OwnOption[];
  readonly presets: readonly PresetName[];
  readonly batch: number;
}

const commands = {
  step: {
    summary:
      'training steps per patch size and for the published mix, beside eager float32 PyTorch and its best settings',
    takes: ['preset', 'batch', 'precision', 'threads', 'device', 'no-peer'],
    presets: ['small', 'tiny'],
    batch: 4,
  },
  sample: {
    summary: 'one evaluation of the network while sampling, beside eager PyTorch',
    takes: ['preset', 'batch', 'precision', 'threads', 'device', 'no-peer'],
    presets: ['tiny'],
    batch: 64,
  },
  memory: {
    summary: 'peak memory of training, beside eager PyTorch',
    takes: ['preset', 'batch', 'precision', 'threads', 'no-peer'],
    presets: ['small', 'tiny'],
    batch: 4,
  },
  start: {
    summary:
      'the help page, the first update on a prepared set, and (but for --no-peer) the start on a folder of photos, which a Python with Pillow makes',
    takes: ['no-peer'],
    presets: [],
    batch: 1,
  },
  data: {
    summary: 'prepare beside a loop over Pillow',
    takes: [],
    presets: [],
    batch: 1,
  },
  calls: {
    summary: 'what a call from JavaScript to libtorch costs',
    takes: [],
    presets: [],
    batch: 1,
  },
  scaling: {
    summary:
      'what 1 to 1,024 ranks bring: measured costs, a simulation, and trainings in 2 and 4 processes that check it',
    takes: ['preset', 'bandwidth', 'latency', 'chart'],
    presets: ['celeba-64'],
    batch: 1,
  },
  studio: {
    summary: 'how quick the studio is with 100 runs of 100,000 lines of statistics',
    takes: [],
    presets: [],
    batch: 1,
  },
} as const satisfies Record<string, Command>;

export type CommandName = keyof typeof commands;
const commandNames = Object.keys(commands) as CommandName[];

/** Settings of a measurement. */
export interface BenchOptions {
  readonly presets: readonly PresetName[];
  /** Images per full-size step (patch steps take their multiple, as in training); in sampling, images at a time. */
  readonly batch: number;
  readonly repeats: number;
  readonly threads: number;
  readonly device: string;
  readonly precision: TrainOptions['precision'];
  /** Whether Python is measured as well. */
  readonly peer: boolean;
  readonly quick: boolean;
  /** Between the ranks of a simulation. */
  readonly network: { readonly bytesPerSec: number; readonly latency: number };
  /** File of the chart, or null. */
  readonly chart: string | null;
}

export interface CommandLine {
  readonly command: CommandName | null;
  /** What follows the command, without `--json` and `--against`. */
  readonly arguments: readonly string[];
  readonly json: string | null;
  readonly against: string | null;
  readonly help: boolean;
}

export const HELP = `Measures this machine's speed with Patch Diffusion, and with PyTorch beside it.

Usage: npm run bench -- <command> [options]
       npm run bench -- --against FILE     measures again what FILE holds and says what became slower

Commands
${commandNames.map((name) => `  ${name.padEnd(8)}  ${commands[name].summary}`).join('\n')}

Options
  --preset NAME      ${presetNames.join(', ')}; may be repeated
${defaultsText('preset', ({ presets }) => presets.join(' and '))}
  --batch N          images per full-size step (patch steps take their multiple, as in training), or at a time
${defaultsText('batch', ({ batch }) => String(batch))}
  --precision NAME   ours: auto (default), fp32, tf32, fp16, bf16
  --threads N        CPU threads of both sides; default: all cores (${availableParallelism()})
  --repeats N        timed repeats; default 5
  --device NAME      cpu (default) or cuda
  --no-peer          leave Python out
  --bandwidth GB/s   scaling: of the simulated network; default 10
  --latency µs       scaling: of the simulated network; default 20
  --chart FILE       scaling: draw the simulation into an SVG file
  --quick            a check that it runs, not a measurement: one repeat, small inputs
  --json FILE        also write all figures to FILE
  --against FILE     compare with FILE, which --json wrote; exit status 1 where something became slower
  --help             this text

PYTHON names the Python whose torch is the peer: the same build of torch as the libtorch in use.
Times hold for a machine that does nothing else; processor time, which the ratios use, suffers less from other work.
`;

const flags = {
  preset: { type: 'string', multiple: true },
  batch: { type: 'string' },
  precision: { type: 'string' },
  threads: { type: 'string' },
  repeats: { type: 'string' },
  device: { type: 'string' },
  'no-peer': { type: 'boolean' },
  bandwidth: { type: 'string' },
  latency: { type: 'string' },
  chart: { type: 'string' },
  quick: { type: 'boolean' },
  json: { type: 'string' },
  against: { type: 'string' },
  help: { type: 'boolean', short: 'h' },
} as const;

/** A line of the help page with each command's default of an option. */
function defaultsText(option: Command['takes'][number], text: (command: Command) => string): string {
  const all = commandNames.map((name): [CommandName, Command] => [name, commands[name]]);
  const taking = all.filter(([, { takes }]) => takes.includes(option));
  return `                     (default: ${taking.map(([name, command]) => `${name} ${text(command)}`).join(', ')})`;
}

/** @throws UsageError with a message for people */
export function parseCommandLine(argv: readonly string[]): CommandLine {
  const { values, positionals, tokens } = parse(argv);
  const [name, ...rest] = positionals;
  const command = commandNames.find((known) => known === name) ?? null;
  if (name !== undefined && command === null)
    throw new UsageError(`${name} is not a command; commands are ${commandNames.join(', ')}`);
  if (rest.length) throw new UsageError(`one command at a time: leave out ${rest.join(' ')}`);
  const kept = tokens.flatMap((token) => {
    if (token.kind !== 'option' || token.name === 'json' || token.name === 'against') return [];
    return token.value === undefined ? [`--${token.name}`] : [`--${token.name}`, token.value];
  });
  return {
    command,
    arguments: kept,
    json: values.json ?? null,
    against: values.against ?? null,
    help: values.help ?? false,
  };
}

/** @throws UsageError if an option is unknown, out of range, or not one of the command */
export function resolveOptions(command: CommandName, args: readonly string[]): BenchOptions {
  const { values } = parse(args);
  const { takes, presets: defaultPresets, batch } = commands[command] as Command;
  for (const name of ownOptions) {
    if (values[name] !== undefined && !takes.includes(name))
      throw new UsageError(`--${name} is not an option of ${command}; leave it out`);
  }
  const quick = values.quick ?? false;
  const precisions = ['auto', 'fp32', 'tf32', 'fp16', 'bf16'] as const;
  return {
    presets: values.preset?.map((name) => oneOf('preset', name, presetNames)) ?? defaultPresets,
    batch: count('batch', values.batch) ?? (quick ? Math.ceil(batch / 8) : batch),
    repeats: count('repeats', values.repeats) ?? (quick ? 1 : 5),
    threads: count('threads', values.threads) ?? availableParallelism(),
    device: oneOf('device', values.device ?? 'cpu', ['cpu', 'cuda']),
    precision: oneOf('precision', values.precision ?? 'auto', precisions),
    peer: !values['no-peer'],
    quick,
    network: {
      bytesPerSec: (count('bandwidth', values.bandwidth) ?? 10) * 1e9,
      latency: (count('latency', values.latency) ?? 20) / 1e6,
    },
    chart: values.chart ?? null,
  };
}

/** The training options of a preset at its own image side. */
export function presetOptions(preset: PresetName): TrainOptions {
  const resolution = presets[preset].sidePx;
  return resolveTrainOptions({ call: { data: 'random images', preset, resolution } });
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({ args: [...argv], options: flags, allowPositionals: true, tokens: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function oneOf<T extends string>(option: string, text: string, allowed: readonly T[]): T {
  const value = allowed.find((name) => name === text);
  if (value === undefined)
    throw new UsageError(`--${option} ${text}: it must be one of ${allowed.join(', ')}`);
  return value;
}

function count(option: string, text: string | undefined): number | null {
  if (text === undefined) return null;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new UsageError(`--${option} ${text}: it must be a whole number, at least 1`);
  return value;
}
