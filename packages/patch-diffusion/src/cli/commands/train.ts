/** `patch-diffusion train`: resolves the options, shows the run, saves its state when interrupted. */

import { dirname } from 'node:path';
import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import { tellLauncher } from '../../common/launched.js';
import { programName } from '../../common/program-name.js';
import { Trace } from '../../common/trace.js';
import { configSource } from '../../config/config-file.js';
import * as f from '../../config/fields.js';
import { officialTrainOptions, takeOfficialOptions } from '../../config/official.js';
import { presetNames, presets } from '../../config/presets.js';
import { checkBatch } from '../../config/resolve.js';
import { DEFAULT_PRESET, type TrainOptions, trainFields } from '../../config/train-options.js';
import type { Ranks } from '../../distributed/ranks.js';
import { extentName } from '../../patches/extent.js';
import type { Evaluator } from '../../training/evaluator.js';
import type { TrainEvent } from '../../training/events.js';
import { chooseProcesses } from '../choose-processes.js';
import { addFields, addOfficial, readFlags } from '../flags.js';
import { Exit, INTERRUPTED, interruptible } from '../interrupt.js';
import type { RankNews } from '../launch.js';
import { TrainProgressView } from '../progress.js';
import { RankLog } from '../rank-log.js';
import { checkPlace, withRanks } from '../run-as-rank.js';
import { startStudioChild } from '../studio-child.js';
import { formatSec, note, print } from '../terminal.js';

const HELP = `
Presets:
${presetNames.map((name) => `  ${name.padEnd(Math.max(...presetNames.map((n) => n.length)) + 2)}${presets[name].summary}`).join('\n')}
  The defaults above are those of "${DEFAULT_PRESET}". A config file overrides the preset, flags override both.

Examples:
  $ patch-diffusion train --data photos-64.zip --preset small --out runs
  $ patch-diffusion train --data ./photos --preset tiny --max-sec 600
  $ patch-diffusion train --resume runs/00000-photos-64
  $ patch-diffusion train --data photos-64.zip --preset small --nproc 2
  $ patch-diffusion train --data celeba-64.zip --preset celeba-64 --dry-run

Names and values of the official trainer work too: --outdir, --duration, --real_p, --cbase, --cres 1,2,2,2, …`;

const ownFields = {
  dryRun: f.boolean('Print what would be done, and stop', { short: 'n', default: false }),
  studio: f.boolean('Show the run in the browser while it trains, as `patch-diffusion studio` does', {
    default: false,
  }),
  ...f.under('Machine', {
    nproc: f.int(
      'Processes that share the work on this machine; the result is the same. auto: for a new run, one for each GPU, or on a CPU two, unless --threads or OMP_NUM_THREADS is given; for a resumed one, as many as before',
      { unit: 'processes', min: 1, max: 1024, nullWord: 'auto' },
    ),
    maxRestarts: f.int(
      'With --nproc: after a failure, start all ranks again from the newest state, so often',
      {
        unit: 'times',
        min: 0,
        max: 1000,
        default: 0,
      },
    ),
    trace: f.path('Write where the time goes to this file, in the trace format of Chrome', {
      nullWord: 'none',
      default: null,
    }),
  }),
};

export function register(program: Command): void {
  const command = program
    .command('train')
    .description(
      'Train a diffusion model on patches of your images. Writes a run folder with samples, snapshots ' +
        'and the complete state; Ctrl-C saves the state, --resume continues from it.',
    )
    .option('--config <file>', 'Options from a JSON or YAML file (or an earlier run.json)');
  const { nproc, maxRestarts, trace, ...first } = ownFields;
  addFields(command, first);
  addFields(command, trainFields, presets[DEFAULT_PRESET].values);
  addFields(command, { nproc, maxRestarts, trace });
  addOfficial(command, officialTrainOptions);
  command.addHelpText('after', HELP).action(runTrain);
}

async function runTrain(given: Record<string, unknown>): Promise<void> {
  const { config, ...values } = given;
  const part = (isOwn: boolean) =>
    Object.fromEntries(Object.entries(values).filter(([key]) => key in ownFields === isOwn));
  const { dryRun, studio, nproc, maxRestarts, trace } = readFlags(ownFields, part(true));
  const place = checkPlace(nproc ?? 1);
  const { flags, notes } = takeOfficialOptions(part(false), officialTrainOptions);
  for (const text of notes) note(`note: ${text}`);
  const { resolveRunOptions } = await import('../../training/resume.js');
  const options = await resolveRunOptions({ flags, file: await configSource(config) });
  checkBatch(options, place?.worldSize ?? nproc ?? 1);
  if (dryRun) {
    const { describePlan } = await import('../plan.js');
    print(JSON.stringify(options, null, 2));
    print('');
    print(await describePlan(options));
    print('dry run: nothing was written');
    return;
  }
  const processes = nproc ?? (place ? 1 : await chooseProcesses(options));
  if (maxRestarts > 0 && processes === 1)
    throw usageError(
      'BAD_OPTION',
      `--max-restarts ${maxRestarts} needs --nproc of 2 or more; torchrun and others that start ranks restart them themselves`,
    );
  const resume = (runDir: string) => [
    ...['train', '--resume', runDir],
    ...(studio ? ['--studio'] : []),
    ...(trace === null ? [] : ['--trace', trace]),
  ];
  const start = {
    ...{ nproc: processes, restart: { times: maxRestarts, resume } },
    remedy: 'start all ranks again with --resume to continue from the last state',
  };
  await withRanks(start, (ranks) => runTraining(options, { traceFile: trace, studio }, ranks));
}

/** What is done beside the training. */
interface Beside {
  readonly traceFile: string | null;
  readonly studio: boolean;
}

/** `trace.json`, and `trace-rank1.json` for rank 1. */
const rankFile = (file: string, rank: number): string =>
  rank === 0 ? file : file.replace(/(\.[^./]*)?$/, `-rank${rank}$1`);

/** Ranks beside the first show what they do in a file, and print no result. */
async function runTraining(options: TrainOptions, beside: Beside, ranks: Ranks | null): Promise<void> {
  const isWriter = ranks?.isWriter ?? true;
  const log = isWriter ? null : new RankLog(ranks!);
  const studio = beside.studio && isWriter;
  const traceFile = beside.traceFile && rankFile(beside.traceFile, ranks?.rank ?? 0);
  const { train } = await import('../../training/loop.js');
  const view = new TrainProgressView();
  const startedAt = Date.now();
  let endStudio = (): void => {};
  const trace = traceFile === null ? undefined : new Trace(ranks?.rank);
  try {
    const result = await interruptible(
      () => (view.hasStarted ? 'saving the training state' : null),
      (text) => view.note(text),
      async (signal) => {
        note(summary(options));
        if (ranks?.isWriter)
          note(`Processes:   ${ranks.worldSize} (--nproc), with logs of their own in the run folder`);
        const onEvent = (event: TrainEvent) => {
          if (event.type === 'start') {
            log?.open(event.runDir);
            if (ranks?.isWriter) tellLauncher({ type: 'run', runDir: event.runDir } satisfies RankNews);
            const folder = options.nosubdir ? event.runDir : dirname(event.runDir);
            if (studio) endStudio = startStudioChild(folder, (line) => view.note(line));
          }
          view.onEvent(event);
        };
        const evaluator = await evaluatorOf(options);
        const done = await train(options, { signal, onEvent, ranks, evaluator, ...(trace ? { trace } : {}) });
        await ranks?.leave();
        return done;
      },
    );
    view.close();
    await trace?.write(traceFile!);
    const time = formatSec((Date.now() - startedAt) / 1000);
    if (result.interrupted) {
      note(
        `interrupted after ${time}; state saved. Continue with: ${programName()} train --resume ${result.runDir}`,
      );
      throw new Exit(INTERRUPTED);
    }
    note(
      `done in ${time}. Draw images with: ${programName()} generate --run ${result.runDir} --grid sheet.png`,
    );
    if (!log) print(result.runDir);
  } finally {
    endStudio();
    view.close();
  }
}

async function evaluatorOf(options: TrainOptions): Promise<Evaluator | undefined> {
  if (options.evalTicks === null) return undefined;
  const { evaluatorFor } = await import('../../evaluation/while-training.js');
  return evaluatorFor(options);
}

/** The options that decide what a run is, in a few lines. */
function summary(o: TrainOptions): string {
  const size = o.resolution === null ? '' : `, ${extentName(f.toExtent(o.resolution))} px`;
  const limits = [
    o.maxSec !== null && `, at most ${formatSec(o.maxSec)}`,
    o.maxCpuSec !== null && `, at most ${formatSec(o.maxCpuSec)} of processor time`,
  ];
  const length = [`${o.durationKimg} kimg`, ...limits.filter(Boolean)].join('');
  const cooldown = o.lrCooldown > 0 ? ` with cooldown over the last ${Math.round(o.lrCooldown * 100)} %` : '';
  const precision = o.precision === 'fp32' ? '' : `, ${o.precision}`;
  const network = `${o.arch}, ${o.modelChannels} channels × ${o.channelMult.join(',')}, ${o.numBlocks} blocks${precision}`;
  return [
    `Training on  ${o.data}${size}, preset ${o.preset}, seed ${o.seed}`,
    `Network:     ${network}`,
    `Schedule:    ${length}, batch ${o.batch}, lr ${o.lr}${cooldown}, ${o.schedule} patches`,
  ].join('\n');
}
