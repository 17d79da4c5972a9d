/**
 * Entry of the command line: parses, runs one command, and turns its outcome into one line and an exit code:
 * 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */

import { type Command, CommanderError } from 'commander';
import { nearest } from '../common/errors.js';
import { FEW_FILES } from '../common/file-error.js';
import { oneLine } from '../common/printable.js';
import { programName } from '../common/program-name.js';
import { version } from '../common/version.js';
import { normaliseArgs } from './flags.js';
import { Exit, INTERRUPTED } from './interrupt.js';
import { commands, createProgram } from './program.js';
import { complain, note, verbosity } from './terminal.js';

/**
 * Runs the command line.
 *
 * @param argv arguments without `node` and the script
 * @returns the exit code; nothing is thrown
 */
export async function run(argv: readonly string[] = process.argv.slice(2)): Promise<number> {
  survivePipes();
  verbosity.isVerbose = argv.includes('--verbose');
  const args = argv.filter((arg) => arg !== '--verbose');
  const name = args.find((arg) => !arg.startsWith('-'));
  let program: Command | undefined;
  try {
    program = await createProgram(args[0] === name ? name : undefined, version);
    if (args.length === 0) {
      program.outputHelp();
      return 0;
    }
    await program.parseAsync(normalised(program, args, name), { from: 'user' });
    return typeof process.exitCode === 'number' ? process.exitCode : 0;
  } catch (error) {
    return report(error, name, program);
  }
}

function survivePipes(): void {
  // Messages that nobody can read any more are no reason to stop: a run goes on, and is saved when it is stopped.
  process.stderr.on('error', () => {});
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    // A closed pipe (`… | head`) is no error.
    if (error.code === 'EPIPE') process.exit(0);
    process.exit(fail(`cannot write to standard output: ${oneLine(error.message)}`, 1));
  });
}

function normalised(program: Command, args: readonly string[], name: string | undefined): string[] {
  const command = program.commands.find((c) => c.name() === name);
  if (command === undefined || args[0] !== name) return [...args];
  return [name, ...normaliseArgs(command, args.slice(1))];
}

/** Prints what went wrong; returns the exit code. */
function report(error: unknown, name: string | undefined, program: Command | undefined): number {
  if (error instanceof CommanderError) {
    if (error.exitCode === 0) return 0;
    if (error.code === 'commander.unknownCommand') return fail(unknownCommand(name ?? ''), 2);
    return fail(usageMessage(error, name, program), 2);
  }
  if (error instanceof Exit) return error.exitCode;
  if (!(error instanceof Error)) return fail(String(error), 1);
  const { exitCode } = error as { exitCode?: unknown };
  const { isVerbose } = verbosity;
  if (error.name === 'AbortError') return INTERRUPTED;
  if (isVerbose) note(`${error.stack}\n${causes(error)}`.trimEnd());
  const isForPeople = [
    'UserError',
    'TorchError',
    'FileWriteError',
    'SafetensorsError',
    'SetupError',
  ].includes(error.name);
  const { code, syscall } = error as NodeJS.ErrnoException;
  // Mostly Node's own, which opens all imports of a module at once.
  if (code === 'EMFILE' || code === 'ENFILE') return fail(FEW_FILES, 1);
  const isSystem = typeof syscall === 'string';
  if (isForPeople || isSystem || typeof exitCode === 'number') {
    // The set-up's message lists places and commands, a line each.
    const text = error.name === 'SetupError' ? error.message : oneLine(error.message);
    return fail(text, exitCode === 2 ? 2 : 1);
  }
  const hint = isVerbose ? '' : '; --verbose shows where';
  return fail(`internal: ${oneLine(error.message)} (please report this${hint})`, 1);
}

function causes(error: Error): string {
  return error.cause instanceof Error ? `caused by ${error.cause.stack}\n${causes(error.cause)}` : '';
}

function unknownCommand(name: string): string {
  const near = nearest(
    name,
    commands.map((c) => c.name),
  );
  const hint = near === undefined ? seeHelp() : `did you mean "${near}"?`;
  return `unknown command "${name}"; ${hint}`;
}

/** Commander's message in our form: what is wrong; what to do. */
function usageMessage(error: CommanderError, name: string | undefined, program: Command | undefined): string {
  const text = oneLine(error.message).replace(/^error: /, '');
  const unknown = /^unknown option '--?([^'=]+)/.exec(text)?.[1];
  if (unknown !== undefined) {
    const command = program?.commands.find((c) => c.name() === name) ?? program;
    const names = command?.options.map((o) => o.long ?? '') ?? [];
    const near = nearest(
      unknown,
      names.map((n) => n.slice(2)),
    );
    return `unknown option --${unknown}; ${near === undefined ? seeHelp(name) : `did you mean --${near}?`}`;
  }
  return `${text}; ${seeHelp(name)}`;
}

const seeHelp = (name?: string): string =>
  `see ${programName()} ${name === undefined ? '' : `${name} `}--help`;

function fail(message: string, exitCode: number): number {
  complain(message);
  return exitCode;
}
