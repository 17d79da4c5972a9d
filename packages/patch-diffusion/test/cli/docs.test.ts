import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { cliPage } from '../../src/cli/docs.js';

it('docs/cli.md is what the program says', async () => {
  const page = await readFile(new URL('../../../../docs/cli.md', import.meta.url), 'utf8');
  expect(page, 'stale: run npm run build && npm run docs:cli').toBe(await cliPage());
});
