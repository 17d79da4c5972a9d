/** The help of every command as one Markdown page, `docs/cli.md`. */

import { commands, createProgram } from './program.js';

const WIDTH = 100;

/** Generated from the program, so that the page and `--help` cannot differ. */
export async function cliPage(): Promise<string> {
  const program = await createProgram('all', '');
  const parts = [
    '# Command line',
    '',
    'This page is generated from the program: `npm run docs:cli`. Flags may be written `--flag value` or',
    '`--flag=value`, with dashes or underscores; true/false flags may stand alone or take `0`/`1`. A config file',
    '(`--config`, JSON or YAML) has the same names in camelCase. Exit codes: 0 done, 1 failed, 2 wrong usage,',
    '130 interrupted.',
  ];
  for (const { name } of commands) {
    const command = program.commands.find((c) => c.name() === name);
    if (command === undefined) continue;
    // Through outputHelp, since the examples are added there.
    let text = '';
    command.configureOutput({ getOutHelpWidth: () => WIDTH, writeOut: (part) => (text += part) });
    command.outputHelp();
    parts.push('', `## ${name}`, '', '```text', text.trimEnd(), '```');
  }
  return `${parts.join('\n')}\n`;
}
