/** What the benchmark is doing, on standard error. */
export function log(line: string): void {
  process.stderr.write(`${line}\n`);
}
