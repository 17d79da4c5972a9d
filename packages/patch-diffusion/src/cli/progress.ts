/**
 * Shows the events of a run: a line that keeps changing on a terminal, one line per tick elsewhere (log files).
 * Listens only; the training loop does not know of it.
 */

import { describeLabels } from '../data/sample-labels.js';
import type { EvaluationResultEvent, StepEvent, TickEvent, TrainEvent } from '../training/events.js';
import { patchesText } from './patches-text.js';
import { fetchLine, formatBytes, formatCount, formatSec, LiveLine, note, verbosity } from './terminal.js';

const BAR_CHARS = 24;
/** A shorter bar shows nothing. */
const MIN_BAR_CHARS = 4;

/** ████████░░░░ */
export function bar(share: number, width = BAR_CHARS): string {
  const done = Math.round(Math.min(1, Math.max(0, share)) * width);
  return '█'.repeat(done) + '░'.repeat(width - done);
}

/**
 * "████░░░░ 50%  part  part" in so many columns. The bar gives way to the text; then the last parts are left out, so
 * they come in the order of their importance.
 */
export function shareLine(share: number, parts: readonly string[], columns: number): string {
  let text = `${Math.floor(100 * Math.min(1, share))}%`;
  for (const part of parts) {
    if (text.length + 2 + part.length > columns) break;
    text += `  ${part}`;
  }
  const room = Math.min(BAR_CHARS, columns - text.length - 1);
  return room < MIN_BAR_CHARS ? text : `${bar(share, room)} ${text}`;
}

/** "working ████░░░░ 12/34" for short jobs: preparing, sampling. */
export function countLine(what: string, done: number, total: number): string {
  const share = total > 0 ? done / total : 0;
  return `${what} ${bar(share)} ${formatCount(done)}/${formatCount(total)}`;
}

/** One line per tick, after the official trainer's status line. */
export function tickLine(e: TickEvent): string {
  const patches = Object.entries(e.lossPerPatch).map(([size, loss]) => `p${size} ${loss.toFixed(4)}`);
  const parts = [
    `tick ${String(e.tick).padEnd(5)}`,
    `kimg ${e.kimg.toFixed(1).padEnd(9)}`,
    `loss ${e.loss.toFixed(4)}${patches.length > 1 ? ` (${patches.join(', ')})` : ''}`,
    e.heldOutLoss !== undefined && `held out ${e.heldOutLoss.toFixed(4)}`,
    `${e.imagesPerSec.toFixed(1)} images/s`,
    `time ${formatSec(e.totalSec)}`,
    `left ${formatSec(e.etaSec)}`,
    `memory ${formatBytes(e.rssBytes)}`,
    e.gpuBytes !== undefined && `GPU ${formatBytes(e.gpuBytes)}`,
    e.nonFiniteGrads > 0 && `${e.nonFiniteGrads} updates with non-finite gradients`,
  ];
  return parts.filter(Boolean).join('  ');
}

/** The changing line of a run. */
export function stepLine(e: StepEvent, run: RunStatus, columns: number): string {
  // The limit that ends the run says how far it is.
  const limits: { share: number; place: string }[] = [
    {
      share: e.nimg / e.totalNimg,
      place: `${e.kimg.toFixed(e.kimg < 1000 ? 1 : 0)}/${(e.totalNimg / 1000).toFixed(0)} kimg`,
    },
    ...timeLimit(e.totalSec, e.plannedSec, ''),
    ...timeLimit(e.trainCpuSec, e.plannedCpuSec, ' CPU'),
  ];
  const nearest = limits.reduce((a, b) => (b.share > a.share ? b : a));
  const parts = [
    nearest.place,
    `left ${formatSec(e.etaSec)}`,
    run.loss !== null && `loss ${run.loss.toFixed(4)}`,
    `${e.imagesPerSec.toFixed(e.imagesPerSec < 100 ? 1 : 0)} images/s`,
    run.rssBytes !== null && formatBytes(run.rssBytes),
  ];
  return shareLine(
    nearest.share,
    parts.filter((part) => part !== false),
    columns,
  );
}

function timeLimit(doneSec: number, plannedSec: number | null, what: string) {
  if (plannedSec === null) return [];
  const place = `${formatSec(Math.min(doneSec, plannedSec))} of ${formatSec(plannedSec)}${what}`;
  return [{ share: doneSec / plannedSec, place }];
}

/** `evaluation   heldOutLoss 0.2311 [0.2250, 0.2377], lossGap 0.0042 [−0.0100, 0.0200] (best so far)` */
function evaluationLine({ figures, isBest }: EvaluationResultEvent): string {
  const parts = Object.entries(figures).map(
    ([name, { value, low, high }]) => `${name} ${value.toFixed(4)} [${low.toFixed(4)}, ${high.toFixed(4)}]`,
  );
  return `evaluation   ${parts.join(', ')}${isBest ? ' (best so far)' : ''}`;
}

/** What the changing line shows beside an update. */
export interface RunStatus {
  /** Averaged over updates. */
  readonly loss: number | null;
  /** Resident memory of the process, as last reported. */
  readonly rssBytes: number | null;
}

/** A listener for {@link TrainEvent}s that shows a run on this process's terminal. */
export class TrainProgressView {
  readonly #line = new LiveLine();
  #hasStarted = false;
  #loss: number | null = null;
  #rssBytes: number | null = null;

  /** Has training begun, so that there is a state to save? */
  get hasStarted(): boolean {
    return this.#hasStarted;
  }

  readonly onEvent = (event: TrainEvent): void => {
    const line = this.#line;
    switch (event.type) {
      case 'data':
        line.set(
          countLine(event.phase === 'scan' ? 'looking at images' : 'reading images', event.done, event.total),
        );
        break;
      case 'start': {
        const { dataset: d } = event;
        this.#hasStarted = true;
        const labels = d.labelDim === 0 ? '' : `, ${describeLabels(d.labelDim, d.labels)}`;
        line.clear();
        note(
          `Images:      ${formatCount(d.length)} of ${d.width}×${d.height} px, ${d.channels} channels${labels} (${d.path})`,
        );
        note(`Patches:     ${patchesText(event.schedule)}, ${event.schedule.name}`);
        note(
          `Network:     ${formatCount(event.parameters)} parameters on ${event.device}, ${event.options.precision}`,
        );
        note(`Run folder:  ${event.runDir}`);
        if (event.resumedFrom !== null)
          note(
            `Resumed from ${event.resumedFrom} (${event.kimg.toFixed(1)} kimg, ${formatCount(event.step)} updates)`,
          );
        break;
      }
      case 'step': {
        // Single updates jump with the patch size and noise level: show a slow average.
        this.#loss = this.#loss === null ? event.loss : 0.95 * this.#loss + 0.05 * event.loss;
        const status = { loss: this.#loss, rssBytes: this.#rssBytes };
        line.set(stepLine(event, status, line.columns));
        break;
      }
      case 'tick':
        this.#rssBytes = event.rssBytes;
        line.note(tickLine(event));
        break;
      case 'sampling': {
        const { done, total, step, numSteps } = event;
        line.set(`${countLine('drawing samples', done, total)} step ${step}/${numSteps}`);
        break;
      }
      case 'samples':
        line.note(`samples      ${event.file}`);
        break;
      case 'evaluating':
        line.set(countLine(event.what, event.done, event.total));
        break;
      case 'evaluation':
        line.note(evaluationLine(event));
        break;
      case 'snapshot':
        line.note(`snapshot     ${event.file} (${formatBytes(event.bytes)})`);
        break;
      case 'state':
        line.note(`state        ${event.file} (${formatBytes(event.bytes)})`);
        break;
      case 'fetch':
        line.set(fetchLine(event.doneBytes, event.totalBytes));
        break;
      case 'transfer':
        line.clear();
        note(`Transfer:    ${event.message}`);
        if (verbosity.isVerbose) for (const detail of event.details) note(`  ${detail}`);
        break;
      case 'warning':
        line.warn(event.message);
        break;
      case 'end':
        line.clear();
        break;
    }
  };

  /** Lasting line, above the bar. */
  note(text: string): void {
    this.#line.note(text);
  }

  close(): void {
    this.#line.clear();
  }
}
