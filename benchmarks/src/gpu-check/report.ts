/** The files of a check: every result at once in `results.jsonl`, the whole after each stage in JSON and Markdown. */
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';
import { makeFolder } from '@patch-diffusion/torch/make-folder';
import { table, times } from '../markdown.js';
import type { Result, StageOutcome } from './results.js';

/** What was asked for, and when. */
export interface RunFacts {
  readonly device: string;
  readonly minutes: number;
  readonly date: string;
  readonly node: string;
}

export class Report {
  readonly #lines: string;

  /** @param folder made where it is missing */
  constructor(
    readonly folder: string,
    readonly facts: RunFacts,
  ) {
    makeFolder(folder);
    this.#lines = join(folder, 'results.jsonl');
  }

  /** Appends one result: a run that is killed the next moment has it. */
  add(stage: string, result: Result): void {
    appendFileSync(this.#lines, `${JSON.stringify({ stage, ...result })}\n`);
  }

  /** Writes both whole files anew. @param isDone whether all stages have had their turn */
  async write(outcomes: readonly StageOutcome[], isDone: boolean): Promise<void> {
    const whole = { ...this.facts, isDone, stages: outcomes };
    await writeFileAtomic(join(this.folder, 'gpu-check.json'), `${JSON.stringify(whole, null, 2)}\n`);
    await writeFileAtomic(join(this.folder, 'gpu-check.md'), markdown(this.facts, outcomes, isDone));
  }
}

/** The whole report for people. */
function markdown(facts: RunFacts, outcomes: readonly StageOutcome[], isDone: boolean): string {
  const results = outcomes.flatMap(({ stage, results }) => results.map((result) => ({ stage, ...result })));
  const machine = results.find(({ name }) => name === 'machine')?.detail;
  const ratios = results.filter(({ figures }) => figures?.ratio !== undefined);
  const others = results.filter(({ name, figures }) => name !== 'machine' && figures?.ratio === undefined);
  const seconds = outcomes.reduce((sum, outcome) => sum + outcome.seconds, 0);
  return [
    `# Check on \`${facts.device}\``,
    '',
    ...(machine ? [machine, ''] : []),
    `${facts.date}, ${seconds.toFixed(0)} s of ${facts.minutes} min${isDone ? '' : '; **not finished**'}.`,
    '',
    table(
      ['stage', 'outcome', 's', 'results', 'reason'],
      outcomes.map(({ stage, status, seconds: s, results: own, reason }) => [
        ...[stage, status, s.toFixed(1), counts(own), cell(reason ?? '')],
      ]),
    ),
    ...section('Ratios of speed (above 1: ours is quicker)', ['stage', '', ''], ratios, (result) => [
      ...[result.stage, cell(result.name), `**${times(result.figures!.ratio)}** ${cell(result.detail)}`],
    ]),
    ...section('Results', ['stage', '', '', ''], others, ({ stage, name, status, detail }) => [
      ...[stage, cell(name), status, cell(detail)],
    ]),
    '',
  ].join('\n');
}

function section<T>(
  title: string,
  head: string[],
  items: readonly T[],
  row: (item: T) => string[],
): string[] {
  return items.length ? ['', `## ${title}`, '', table(head, items.map(row))] : [];
}

/** `12 ok, 1 failed`. */
function counts(results: readonly Result[]): string {
  const parts = (['ok', 'failed', 'skipped'] as const).flatMap((status) => {
    const count = results.filter((result) => result.status === status).length;
    return count ? [`${count} ${status}`] : [];
  });
  return parts.join(', ');
}

/** Text of a table's cell: one line, without its separator. */
function cell(text: string): string {
  return text
    .trim()
    .replaceAll('|', '\\|')
    .replace(/\s*\n\s*/g, ' ');
}
