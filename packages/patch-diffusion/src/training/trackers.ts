/**
 * What other programs watch runs by: TensorBoard's event files (`--tensorboard`) and a table (`--csv`). Both are made of the
 * events of the run, and a write that fails never ends it.
 */

import type { MessageInitShape } from '@bufbuild/protobuf';
import { fileError } from '../common/file-error.js';
import type { TrainOptions } from '../config/train-options.js';
import {
  type EventSchema,
  SessionLog_SessionStatus,
  TensorProto_DataType,
} from '../formats/tensorboard/event_pb.js';
import { EventFile } from '../formats/tensorboard/event-file.js';
import { evaluationsCsv, writeEvaluationsCsv } from '../run/evaluations-csv.js';
import { newEventFile } from '../run/event-files.js';
import type { StatsLine } from '../run/stats.js';
import { StatsCsv } from '../run/stats-csv.js';
import type {
  EvaluationResultEvent,
  SamplesEvent,
  StartEvent,
  TickEvent,
  TrainEvent,
  TrainEventListener,
} from './events.js';
import type { LevelCounts } from './level-counts.js';

/** One way of keeping what happened. */
interface Tracker {
  /** What it writes, in words. */
  readonly what: string;
  readonly path: string;
  onEvent(event: TrainEvent): void;
  flush(): Promise<void>;
  close(): Promise<void>;
}

export class Trackers {
  readonly #trackers: readonly Tracker[];
  /** Those whose last write failed: they have been warned of. */
  readonly #failing = new Set<Tracker>();

  private constructor(trackers: readonly Tracker[]) {
    this.#trackers = trackers;
  }

  /** The trackers that the options ask for. Writes nothing yet. */
  static async open(
    { tensorboard, csv }: Pick<TrainOptions, 'tensorboard' | 'csv'>,
    runDir: string,
  ): Promise<Trackers> {
    return new Trackers([
      ...(tensorboard ? [new TensorBoardTracker(new EventFile(await newEventFile(runDir)))] : []),
      ...(csv ? [new CsvTracker(new StatsCsv(runDir)), new EvaluationsTracker(runDir)] : []),
    ]);
  }

  onEvent(event: TrainEvent): void {
    for (const tracker of this.#trackers) tracker.onEvent(event);
  }

  /** Writes what has come since; where that fails, it says so once and the next call tries again. */
  async flush(emit: TrainEventListener): Promise<void> {
    for (const tracker of this.#trackers) {
      try {
        await tracker.flush();
        this.#failing.delete(tracker);
      } catch (caught) {
        if (this.#failing.has(tracker)) continue;
        this.#failing.add(tracker);
        const { message } = fileError(caught, `write ${tracker.path}`) as Error;
        const text = `could not write the ${tracker.what}: ${message}; the run continues and tries again`;
        emit({ type: 'warning', code: 'NOT_WRITTEN', message: text });
      }
    }
  }

  /** Writes the rest as far as it can. */
  async close(): Promise<void> {
    await this.flush(() => {});
    for (const tracker of this.#trackers) await tracker.close().catch(() => {});
  }
}

class CsvTracker implements Tracker {
  readonly what = 'table of statistics';
  readonly #csv: StatsCsv;
  readonly #lines: StatsLine[] = [];

  constructor(csv: StatsCsv) {
    this.#csv = csv;
  }

  get path(): string {
    return this.#csv.path;
  }

  onEvent(event: TrainEvent): void {
    if (event.type === 'tick') this.#lines.push(event.stats);
  }

  async flush(): Promise<void> {
    while (this.#lines.length) {
      await this.#csv.append(this.#lines[0]);
      this.#lines.shift();
    }
  }

  async close(): Promise<void> {}
}

class EvaluationsTracker implements Tracker {
  readonly what = 'table of evaluations';
  readonly path: string;
  readonly #runDir: string;
  /** Evaluations that the table lacks. */
  #isNew = false;

  constructor(runDir: string) {
    this.#runDir = runDir;
    this.path = evaluationsCsv(runDir);
  }

  onEvent({ type }: TrainEvent): void {
    if (type === 'evaluation') this.#isNew = true;
  }

  async flush(): Promise<void> {
    if (!this.#isNew) return;
    await writeEvaluationsCsv(this.#runDir);
    this.#isNew = false;
  }

  async close(): Promise<void> {}
}

type EventInit = MessageInitShape<typeof EventSchema>;

class TensorBoardTracker implements Tracker {
  readonly what = 'TensorBoard events';
  readonly #file: EventFile;

  constructor(file: EventFile) {
    this.#file = file;
  }

  get path(): string {
    return this.#file.path;
  }

  onEvent(event: TrainEvent): void {
    if (event.type === 'start') for (const init of startEvents(event)) this.#file.add(init);
    if (event.type === 'tick') for (const init of tickEvents(event)) this.#file.add(init);
    if (event.type === 'evaluation') this.#file.add(figures(event));
    if (event.type === 'samples') this.#file.add(sheet(event));
  }

  flush(): Promise<void> {
    return this.#file.flush();
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** A viewer that watches the run drops what it has from this update on; and the options, as text. */
function startEvents({ step, options }: StartEvent): EventInit[] {
  const place = { wallTime: Date.now() / 1000, step: BigInt(step) };
  // Indented: a block of code in Markdown, which TensorBoard shows.
  const text = JSON.stringify(options, null, 2).replace(/^/gm, '    ');
  const tensor = {
    ...{ dtype: TensorProto_DataType.DT_STRING, tensorShape: { dim: [{ size: 1n }] } },
    stringVal: [Buffer.from(text)],
  };
  const metadata = { pluginData: { pluginName: 'text' } };
  const value = { tag: 'options', metadata, value: { case: 'tensor' as const, value: tensor } };
  return [
    { ...place, what: { case: 'sessionLog', value: { status: SessionLog_SessionStatus.START } } },
    { ...place, what: { case: 'summary', value: { value: [value] } } },
  ];
}

/** Scalars, and which noise levels were drawn. */
function tickEvents(event: TickEvent): EventInit[] {
  const { noiseLevels, stats, step } = event;
  if (noiseLevels === null) return [scalars(event)];
  const value = { tag: 'Noise/ln_sigma', value: { case: 'histo' as const, value: histogram(noiseLevels) } };
  const what = { case: 'summary' as const, value: { value: [value] } };
  return [scalars(event), { wallTime: stats.timestamp, step: BigInt(step), what }];
}

/** Counts as TensorBoard has them; the moments are those of the middles of the bins. */
function histogram({ lnSigma, counts }: LevelCounts) {
  const middles = counts.map((_, bin) => (lnSigma[bin] + lnSigma[bin + 1]) / 2);
  const total = (of: (bin: number) => number) => counts.reduce((sum, _, bin) => sum + of(bin), 0);
  const used = counts.flatMap((count, bin) => (count > 0 ? [bin] : []));
  return {
    ...{ min: lnSigma[used[0]], max: lnSigma[used[used.length - 1] + 1], num: total((bin) => counts[bin]) },
    sum: total((bin) => counts[bin] * middles[bin]),
    sumSquares: total((bin) => counts[bin] * middles[bin] ** 2),
    ...{ bucketLimit: lnSigma.slice(1), bucket: [...counts] },
  };
}

/** The figures of an evaluation, by their names in docs/evaluation.md. */
function figures({ step, figures: found }: EvaluationResultEvent): EventInit {
  const value = Object.entries(found).map(([name, figure]) => ({
    tag: `Evaluation/${name}`,
    value: { case: 'simpleValue' as const, value: figure.value },
  }));
  return { wallTime: Date.now() / 1000, step: BigInt(step), what: { case: 'summary', value: { value } } };
}

/** The means of a tick, under their names in `stats.jsonl`. */
function scalars({ step, stats }: TickEvent): EventInit {
  const value = Object.entries(stats).flatMap(([tag, stat]) =>
    typeof stat === 'number' ? [] : [{ tag, value: { case: 'simpleValue' as const, value: stat.mean } }],
  );
  return { wallTime: stats.timestamp, step: BigInt(step), what: { case: 'summary', value: { value } } };
}

function sheet({ step, png, shape }: SamplesEvent): EventInit {
  const header = new DataView(png.buffer, png.byteOffset);
  const image = {
    ...{ width: header.getUint32(16), height: header.getUint32(20), colorspace: shape[1] },
    encodedImageString: png,
  };
  const value = { tag: 'samples', value: { case: 'image' as const, value: image } };
  const what = { case: 'summary' as const, value: { value: [value] } };
  return { wallTime: Date.now() / 1000, step: BigInt(step), what };
}
