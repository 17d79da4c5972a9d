/** A script of peer/ in a Python process of its own that answers JSON lines. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export class PythonProcess {
  readonly #name: string;
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #errors: string[] = [];

  private constructor(process: ChildProcessWithoutNullStreams, name: string) {
    this.#name = name;
    this.#process = process;
    process.stdin.on('error', () => undefined); // a process that died shows by its missing answer
    process.stderr.setEncoding('utf8').on('data', (text: string) => this.#errors.push(text));
    this.#lines = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
  }

  /**
   * @param script file in peer/; its first answer says how many parameters its network has
   * @param name for errors
   * @throws Error with Python's last words if it does not come up, or has another number of parameters
   */
  static async start(
    python: string,
    script: string,
    name: string,
    setup: object,
    parameters: number,
  ): Promise<PythonProcess> {
    const path = fileURLToPath(new URL(`../peer/${script}`, import.meta.url));
    const started = new PythonProcess(spawn(python, ['-I', path], { cwd: tmpdir() }), name);
    const hello = await started.ask<{ parameters: number }>(setup);
    if (hello.parameters === parameters) return started;
    started.close();
    throw new Error(`the peer's network has ${hello.parameters} parameters, ours ${parameters}`);
  }

  /** Sends a command and waits for its answer. */
  async ask<T>(message: object): Promise<T> {
    this.#process.stdin.write(`${JSON.stringify(message)}\n`);
    const answer = await this.#lines.next();
    if (!answer.done) return JSON.parse(answer.value) as T;
    if (this.#process.exitCode === null && this.#process.signalCode === null)
      await once(this.#process, 'close');
    throw new Error(`${this.#name} stopped:\n${this.#errors.join('').trim()}`);
  }

  /** Ends the process, also in the middle of a command. */
  close(): void {
    this.#process.stdin.end();
    this.#process.kill();
  }
}
