/** The stack, marks and memo of a pickle machine. A valid pickle never takes more values than lie above the last mark. */
import { type Budget, show } from './budget.js';

/** Estimated heap bytes of one memo entry. */
const MEMO_COST = 40;

export class PickleStack {
  readonly #values: unknown[] = [];
  /** Heights at the open MARKs. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, unknown>();

  constructor(readonly budget: Budget) {}

  push(value: unknown): void {
    this.#values.push(value);
  }

  mark(): void {
    this.#marks.push(this.#values.length);
  }

  pop(): unknown {
    this.#require(1);
    return this.#values.pop();
  }

  top(): unknown {
    this.#require(1);
    return this.#values[this.#values.length - 1];
  }

  /** The last `count` values, the oldest first. */
  popMany(count: number): unknown[] {
    this.#require(count);
    return this.#values.splice(this.#values.length - count, count);
  }

  /** Everything above the last MARK, which goes too. */
  popMark(): unknown[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.budget.fail('it takes a group of values where there is none');
    return this.#values.splice(mark);
  }

  /** Drops a value, or a MARK that is on top. */
  drop(): void {
    if (this.#marks.at(-1) === this.#values.length) this.#marks.pop();
    else this.pop();
  }

  /** Stores the topmost value under an index; default: the next one. */
  remember(index = this.#memo.size): void {
    this.budget.memory(MEMO_COST);
    this.#memo.set(index, this.top());
  }

  /** Pushes the value that was stored under `index`. */
  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) this.budget.fail(`it refers to value ${index}, which was not stored`);
    this.push(value);
  }

  /** An index of protocol 0. */
  index(line: string): number {
    if (!/^\d{1,10}$/.test(line)) this.budget.fail(`${show(line)} is no index`);
    return Number(line);
  }

  #require(count: number): void {
    if (this.#values.length - count < (this.#marks.at(-1) ?? 0)) {
      this.budget.fail('it takes a value where there is none');
    }
  }
}
