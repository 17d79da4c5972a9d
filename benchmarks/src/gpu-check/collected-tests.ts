/**
 * Stands in for vitest in the bundles of golden tests, where vitest itself would be too large to travel: the same
 * `expect`, and of the rest what those tests use. Tests are collected here and run by a stage.
 */
import { chai, JestAsymmetricMatchers, JestChaiExpect, JestExtend } from '@vitest/expect';

export interface CollectedTest {
  readonly name: string;
  run(): void | Promise<void>;
}

/** In the order of the test file. */
export const tests: CollectedTest[] = [];

for (const plugin of [JestExtend, JestChaiExpect, JestAsymmetricMatchers]) chai.use(plugin);

export const expect = (value: unknown, message?: string): Chai.Assertion => chai.expect(value, message);

export function describe(_name: string, body: () => void): void {
  body();
}

/** Nothing of it is collected. */
describe.skip = (): void => {};

export function it(name: string, run: CollectedTest['run']): void {
  tests.push({ name, run });
}

/** @param rows arguments of one test each, the first of which is its name */
it.each =
  <Row extends readonly unknown[]>(rows: readonly Row[]) =>
  (_format: string, run: (...row: Row) => void | Promise<void>): void => {
    for (const row of rows) it(String(row[0]), () => run(...row));
  };
