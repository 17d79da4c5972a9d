/** What `run.sh` of the archive starts: the check of one machine, within a budget of time. */
import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { log } from '../progress.js';
import { UsageError } from '../usage-error.js';
import { Report } from './report.js';
import type { Result, StageOutcome } from './results.js';
import { runStages } from './run-stages.js';
import { endStages } from './stage-process.js';
import { stageNames, stagesFor } from './stages.js';

const HELP = `Checks Patch Diffusion on this machine's GPU, and measures it beside this machine's PyTorch.

Usage: sh run.sh [options]

Options
  --device NAME   cuda (default); cpu, with small networks, only shows that the check runs
  --minutes N     time for everything; what does not fit is skipped and says so; default 8
  --out DIR       folder of the results; default gpu-check-results
  --only NAME     only this stage, after the build; may be repeated:
                  ${stageNames.join(', ')}
  --help

Needs a Python with torch (PYTHON names it; default python3) and a C++ compiler (CXX); nothing is downloaded.
Writes results.jsonl (each result at once), gpu-check.json, gpu-check.md (after each stage) and log.txt into the folder.
Exit status: 0 when nothing failed, 1 when something did, 2 for wrong usage.

Examples
  sh run.sh                                       everything, within 8 minutes
  sh run.sh --minutes 3 --only steps              only the speed of training steps
  PYTHON=/opt/venv/bin/python sh run.sh --out r1  with the PyTorch of a virtual environment
`;

interface CommandLine {
  readonly device: string;
  readonly minutes: number;
  readonly out: string;
  readonly only: readonly string[];
}

function parseCommandLine(args: readonly string[]): CommandLine | null {
  const { device = 'cuda', minutes = '8', out = 'gpu-check-results', only = [], help } = parse(args);
  if (help) return null;
  if (device !== 'cuda' && device !== 'cpu')
    throw new UsageError(`--device ${device}: it must be cuda or cpu`);
  if (!(Number(minutes) > 0)) throw new UsageError(`--minutes ${minutes}: it must be a number above 0`);
  const unknown = only.find((name) => !stageNames.includes(name));
  if (unknown !== undefined)
    throw new UsageError(`--only ${unknown}: it must be one of ${stageNames.join(', ')}`);
  return { device, minutes: Number(minutes), out: resolve(out), only };
}

function parse(args: readonly string[]) {
  const text = { type: 'string' } as const;
  try {
    const only = { type: 'string', multiple: true } as const;
    const options = {
      device: text,
      minutes: text,
      out: text,
      only,
      help: { type: 'boolean', short: 'h' },
    } as const;
    return parseArgs({ args: [...args], options }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function main(line: CommandLine): Promise<void> {
  const { device, minutes, out, only } = line;
  const report = new Report(out, {
    ...{ device, minutes, date: new Date().toISOString(), node: process.version },
  });
  log(`Results go to ${out}; cores: ${availableParallelism()}`);
  await report.write([], false);
  const outcomes = await runStages(stagesFor(device, join(out, 'log.txt'), only), {
    budgetSec: minutes * 60,
    onResult: (stage, result) => {
      report.add(stage, result);
      log(`  ${stage}: ${result.status}: ${result.name}: ${firstLine(result)}`);
    },
    onStage: async (all) => {
      await report.write(all, false);
      log(outcomeText(all.at(-1) as StageOutcome));
    },
  });
  await report.write(outcomes, true);
  const count = (status: StageOutcome['status']): number =>
    outcomes.filter((outcome) => outcome.status === status).length;
  log(
    `${count('ok')} stages ok, ${count('failed')} failed, ${count('skipped')} skipped; see ${join(out, 'gpu-check.md')}`,
  );
  if (count('failed')) process.exitCode = 1;
}

const firstLine = ({ detail }: Result): string => detail.trim().split('\n')[0];

function outcomeText({ stage, status, seconds, reason }: StageOutcome): string {
  return `${stage}: ${status} after ${seconds.toFixed(1)} s${reason ? `: ${reason.split('\n')[0]}` : ''}`;
}

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    endStages();
    process.stderr.write(`gpu-check: ended by ${signal}; what was done until then is in the results\n`);
    process.exit(1);
  });
}

try {
  const line = parseCommandLine(process.argv.slice(2));
  if (line) await main(line);
  else process.stdout.write(HELP);
} catch (error) {
  process.stderr.write(`gpu-check: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
