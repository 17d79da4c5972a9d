/** `npm run bench`: see HELP in options.ts; what the figures mean is in docs/performance.md. */
import * as torch from '@patch-diffusion/torch';
import { writeFileAtomic } from '@patch-diffusion/torch';
import { compareSteps } from './comparison.js';
import { measureConvolutions } from './convolutions.js';
import { describeMachine } from './machine.js';
import { measureCalls, measureNewTensorUs } from './operator-calls.js';
import { type BenchOptions, HELP, parseOptions } from './options.js';
import { type Results, report } from './report.js';

async function measure(options: BenchOptions): Promise<Results> {
  if (options.threads !== null) torch.setNumThreads(options.threads);
  const log = (line: string): void => void process.stderr.write(`${line}\n`);
  const machine = describeMachine(options.device);
  log('convolutions…');
  const convolutions = measureConvolutions(options.device, options.quick ? 2 : 8, options.quick);
  log('operator calls…');
  const calls = measureCalls(options.quick ? 10 : 50);
  const newTensorUs = measureNewTensorUs(options.quick ? 10 : 50);
  const steps = await compareSteps(options, log);
  const { preset, batch, repeats, device, channelsLast, quick } = options;
  return {
    machine,
    options: { preset, batch, repeats, device, channelsLast, quick },
    convolutions,
    peakGflopPerSec: Math.max(...convolutions.map(({ gflopPerSec }) => gflopPerSec)),
    calls,
    newTensorUs,
    steps,
  };
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  if (options === null) {
    process.stdout.write(HELP);
    return;
  }
  const results = await measure(options);
  process.stdout.write(report(results));
  if (options.json !== null) await writeFileAtomic(options.json, `${JSON.stringify(results, null, 2)}\n`);
}

try {
  await main();
} catch (error) {
  process.stderr.write(`bench: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
