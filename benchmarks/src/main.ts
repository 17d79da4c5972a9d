/** `npm run bench`: see HELP in command-line.ts; what the figures mean is in docs/performance.md. */
import * as torch from '@patch-diffusion/torch';
import { compareFigures } from './against.js';
import { measureCalls } from './calls.js';
import {
  type BenchOptions,
  type CommandLine,
  type CommandName,
  HELP,
  parseCommandLine,
  resolveOptions,
} from './command-line.js';
import { measureData } from './data.js';
import { describeMachine, machineText } from './machine.js';
import { digits, percent, table, times } from './markdown.js';
import { type Measurement, type RecordedMeasurement, readMeasurement } from './measurement.js';
import { measureMemory } from './memory.js';
import { measureSamples } from './sample.js';
import { measureScaling } from './scaling/main.js';
import { measureStart } from './start.js';
import { measureSteps } from './step.js';
import { measureStudio } from './studio.js';
import { UsageError } from './usage-error.js';

const measure: Record<CommandName, (options: BenchOptions) => Promise<Measurement>> = {
  step: measureSteps,
  sample: measureSamples,
  memory: measureMemory,
  start: measureStart,
  calls: measureCalls,
  studio: measureStudio,
  data: measureData,
  scaling: measureScaling,
};

async function main(): Promise<void> {
  const line = parseCommandLine(process.argv.slice(2));
  if (line.help) {
    process.stdout.write(HELP);
    return;
  }
  const before = line.against === null ? null : await readMeasurement(line.against);
  const { command, args } = whatToMeasure(line, before);
  const options = resolveOptions(command, args);
  torch.setNumThreads(options.threads);
  const machine = describeMachine(options.device);
  const { figures, markdown, details } = await measure[command](options);
  const recorded: RecordedMeasurement = { command, arguments: args, machine, figures };
  process.stdout.write(`${machineText(machine)}\n\n${markdown}\n`);
  if (line.json !== null) {
    const text = JSON.stringify({ ...recorded, ...details }, null, 2);
    await torch.writeFileAtomic(line.json, `${text}\n`);
  }
  if (before) compare(before, recorded);
}

/** The command and its options: those given, or those of the earlier measurement. */
function whatToMeasure(
  line: CommandLine,
  before: RecordedMeasurement | null,
): { command: CommandName; args: readonly string[] } {
  if (before && line.command !== null && line.command !== before.command)
    throw new UsageError(
      `--against ${line.against} holds a measurement of ${before.command}, not of ${line.command}`,
    );
  if (before) {
    const { command } = parseCommandLine([before.command]);
    return { command: command!, args: line.arguments.length ? line.arguments : before.arguments };
  }
  if (line.command === null)
    throw new UsageError('say what to measure, such as `npm run bench -- step`; --help lists the commands');
  return { command: line.command, args: line.arguments };
}

/** Prints what moved; exit status 1 where something became worse. */
function compare(before: RecordedMeasurement, after: RecordedMeasurement): void {
  const changes = compareFigures(before.figures, after.figures);
  const differs = (['cpu', 'threads', 'libtorch', 'node'] as const).filter(
    (key) => before.machine[key] !== after.machine[key],
  );
  const rows = changes.map(({ name, unit, before: old, after: now, ratio, noise, verdict }) => [
    ...[name, `${digits(old)} ${unit}`, `${digits(now)} ${unit}`, times(ratio), percent(noise), verdict],
  ]);
  const worse = changes.filter(({ verdict }) => verdict === 'worse');
  const lines = [
    '',
    ...(differs.length ? [`Not the same machine or settings: ${differs.join(', ')} differ.`, ''] : []),
    table(['figure', 'before', 'now', 'now / before (above 1 is better)', 'noise', ''], rows),
    '',
    changes.length === 0
      ? 'The two measurements have no figure in common.'
      : worse.length
        ? `Worse by more than the noise: ${worse.map(({ name }) => name).join('; ')}`
        : 'Nothing became worse by more than the noise.',
    '',
  ];
  process.stdout.write(lines.join('\n'));
  if (worse.length || changes.length === 0) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
