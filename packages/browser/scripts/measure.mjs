/**
 * How long a model takes in the system's Chromium, in WebAssembly:
 *
 *   node packages/browser/scripts/measure.mjs model.onnx [--threads 2] [--steps 10]
 *
 * Tells seconds, and seconds of processor time of the whole browser, which suffer less from other work on the machine.
 */
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { createPageServer } from '../../../examples/browser/serve.mjs';

const TICKS_PER_SEC = 100;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { threads: { type: 'string', default: '2' }, steps: { type: 'string', default: '10' } },
});
const [model] = positionals;
if (!model) {
  console.error('Usage: node packages/browser/scripts/measure.mjs model.onnx [--threads 2] [--steps 10]');
  process.exit(2);
}
const server = createPageServer({ '/model.onnx': model }).listen(0, 'localhost');
await once(server, 'listening');
const launched = await chromium.launchServer({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});
const browser = await chromium.connect(launched.wsEndpoint());
const page = await browser.newPage();
await page.goto(`http://localhost:${server.address().port}/page.css`);

const steps = Number(values.steps);
await measure(
  'load',
  `const { load } = await import('/npm/@patch-diffusion/browser/dist/web/index.js');
  globalThis.model = await load('/model.onnx', { backend: 'wasm', threads: ${Number(values.threads)} });`,
);
// The first run also compiles and allocates.
for (const name of ['one picture, first', 'one picture', 'one picture', 'one picture'])
  await measure(name, `await model.sample({ steps: ${steps} });`);
for (const batch of [1, 4, 8, 16]) {
  const seeds = JSON.stringify(Array.from({ length: 16 }, (_, seed) => seed));
  await measure(
    `16 pictures, ${batch} at a time`,
    `await model.sample({ steps: ${steps}, batch: ${batch}, seeds: ${seeds} });`,
  );
}
await launched.close();
server.close();

async function measure(name, body) {
  const [before, startedAt] = [processorSec(), performance.now()];
  await page.evaluate(`(async () => { ${body} })()`);
  const wall = (performance.now() - startedAt) / 1000;
  console.log(`${name.padEnd(26)} ${wall.toFixed(2)} s, processor ${(processorSec() - before).toFixed(2)} s`);
}

/** Processor time of the browser and all processes that it started. */
function processorSec() {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap(readStat);
  const family = new Set([launched.process().pid]);
  for (let size = 0; size < family.size; ) {
    size = family.size;
    for (const { pid, parent } of all) if (family.has(parent)) family.add(pid);
  }
  return all.filter(({ pid }) => family.has(pid)).reduce((sum, { sec }) => sum + sec, 0);
}

function readStat(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // After the name, which may contain blanks: state, parent, …, user and system time.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const sec = (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SEC;
    return [{ pid: Number(pid), parent: Number(fields[1]), sec }];
  } catch {
    return []; // it ended meanwhile
  }
}
