/** Writes docs/cli.md from the built program: `npm run docs:cli` after `npm run build`. */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { cliPage } from '../dist/cli/docs.js';

writeFileSync(fileURLToPath(new URL('../../../docs/cli.md', import.meta.url)), await cliPage());
