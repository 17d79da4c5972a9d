/**
 * `patch-diffusion doctor`: what was found on this machine, what libtorch says of itself, and what would make
 * training faster. Works without an addon too, and then says what is missing.
 */
import type * as Torch from '@patch-diffusion/torch';
import type { Advice, Attempt, LocatedAddon, MachineFacts, RuntimeFacts } from '@patch-diffusion/torch/setup';
import type { Command } from 'commander';
import { version } from '../../common/version.js';
import * as f from '../../config/fields.js';
import { addFields, readFlags } from '../flags.js';
import { formatBytes, print, table } from '../terminal.js';

/** All that the doctor knows; the shape of `--json`. */
interface Report {
  readonly ok: boolean;
  readonly version: string;
  readonly machine: MachineFacts;
  readonly libtorch: { version: string; root: string; foundBy: string; cuda: boolean } | null;
  readonly addon: string | null;
  readonly runtime: Runtime | null;
  readonly problem: { code: string; message: string } | null;
  readonly tried: readonly Attempt[];
  readonly advice: readonly Advice[];
}

/** What the loaded libtorch tells of itself. */
interface Runtime extends RuntimeFacts {
  /** Kernels that it picked for this processor, such as AVX512. */
  readonly cpuCapability: string | null;
  readonly blas: string;
  readonly oneDnn: string;
  readonly parallel: string;
  /** Whether several processes can train together (c10d with Gloo). */
  readonly distributed: boolean;
  readonly gpus: readonly { name: string; totalBytes: number }[];
}

const fields = { json: f.boolean('Print it as JSON', { default: false }) };

/** Adds the command to the program. */
export function register(program: Command): void {
  const command = program
    .command('doctor')
    .description('Show what was found on this machine, and what would make training faster');
  addFields(command, fields);
  command.action(async (given: Record<string, unknown>) => {
    const { json } = readFlags(fields, given);
    const report = await examine();
    print(json ? JSON.stringify(report, null, 2) : describe(report));
    if (!report.ok) process.exitCode = 1;
  });
}

async function examine(): Promise<Report> {
  const { advise, gatherMachineFacts, locateAddon, locateLibtorch, SetupError, thisHost } = await import(
    '@patch-diffusion/torch/setup'
  );
  const host = thisHost();
  const machine = gatherMachineFacts(host);
  const search = locateLibtorch(host);
  let located: LocatedAddon | undefined;
  let runtime: Runtime | undefined;
  let problem: Report['problem'] = null;
  try {
    located = locateAddon(host);
    runtime = askRuntime(await import('@patch-diffusion/torch'));
  } catch (error) {
    const code = error instanceof SetupError ? error.code : 'ADDON_UNUSABLE';
    problem = { code, message: (error as Error).message };
  }
  const { libtorch } = search;
  return {
    ok: problem === null,
    version,
    machine,
    libtorch: libtorch
      ? { version: libtorch.version, root: libtorch.root, foundBy: libtorch.origin, cuda: libtorch.cuda }
      : null,
    addon: located?.addon ?? null,
    runtime: runtime ?? null,
    problem,
    tried: search.tried,
    advice: libtorch ? advise(machine, libtorch, runtime, host) : [],
  };
}

function askRuntime(torch: typeof Torch): Runtime {
  const about = torch.version();
  const count = torch.cudaDeviceCount();
  return {
    threads: torch.getNumThreads(),
    cudaDevices: count,
    noCudaReason: about.noCudaReason,
    cpuCapability: about.cpuCapability,
    blas: about.mkl ? 'MKL' : (/BLAS_INFO=(\w+)/.exec(about.config)?.[1] ?? 'unknown'),
    oneDnn: about.oneDnn ? (/(?:MKL-DNN|oneDNN) (v[\d.]+)/.exec(about.config)?.[1] ?? 'yes') : 'no',
    parallel: /parallel backend: (.*)/.exec(about.parallel)?.[1] ?? 'unknown',
    distributed: torch.distributedIsAvailable(),
    gpus: Array.from({ length: count }, (_, index) => torch.cudaDeviceInfo(index)),
  };
}

function describe(report: Report): string {
  const { machine, libtorch, runtime, problem, advice } = report;
  const { cpu, memory } = machine;
  const rows: [string, string][] = [
    ['patch-diffusion', report.version],
    ['Node', `${machine.node} on ${machine.os}`],
    ['processor', `${cpu.model} (${cpu.vector.join(', ') || 'no vector instructions known'})`],
    ['cores', `${cpu.cores}, ${cpu.threads} hardware threads`],
    ['memory', `${formatBytes(memory.totalBytes)}, ${formatBytes(memory.freeBytes)} free`],
    [
      'GPU',
      machine.gpus.map((gpu) => `${gpu.name} (${gpu.memory}, driver ${gpu.driver})`).join('; ') || 'none',
    ],
  ];
  if (libtorch) {
    rows.push(['libtorch', `${libtorch.version}${libtorch.cuda ? ', with CUDA' : ', for CPUs'}`]);
    rows.push(['  path', `${libtorch.root} (found by: ${libtorch.foundBy})`]);
  } else {
    rows.push(['libtorch', 'not found']);
  }
  rows.push(['addon', report.addon ?? 'not built']);
  if (runtime) {
    rows.push(['threads', `${runtime.threads} (${runtime.parallel})`]);
    rows.push(['kernels', runtime.cpuCapability ?? 'chosen by libtorch, which does not tell']);
    rows.push(['BLAS', runtime.blas]);
    rows.push(['oneDNN', runtime.oneDnn]);
    const processes = runtime.distributed
      ? 'several can train together (Gloo)'
      : 'this libtorch knows one only (no c10d)';
    rows.push(['processes', processes]);
    const devices = runtime.gpus
      .map(({ name, totalBytes }) => `${name} (${formatBytes(totalBytes)})`)
      .join('; ');
    rows.push(['CUDA', devices || `none: ${runtime.noCudaReason ?? 'no device'}`]);
  }
  const parts = [table(rows)];
  if (problem) parts.push(`Problem: ${problem.message}`);
  else if (advice.length === 0) parts.push('All is well; nothing here would make it faster.');
  if (advice.length > 0) parts.push(`Advice:\n${advice.map(({ message }) => `- ${message}`).join('\n')}`);
  return parts.join('\n\n');
}
