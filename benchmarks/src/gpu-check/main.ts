/** `npm run gpu-check`: packs the archive that checks a machine with a GPU. */
import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { log } from '../progress.js';
import { UsageError } from '../usage-error.js';
import { LIMITS, pack } from './pack.js';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

const HELP = `Packs one archive that checks Patch Diffusion on a machine with a CUDA GPU and measures it beside that machine's PyTorch.
The machine needs a Python with torch and a C++ compiler; it needs no Node, no npm, no CUDA compiler and no network. It must have
the operating system and processor architecture of this one.

Usage: npm run gpu-check -- [options]

Options
  --out FILE      the archive (at most ${LIMITS.archiveBytes / 1e6} MB); default runs/gpu-check.tar.xz
  --golden DIR    recorded vectors to take along (a selection of at most ${LIMITS.goldenBytes / 1e6} MB); default: GOLDEN_DIR,
                  or golden/ in SHARED_DIR, which is ../shared. Where there are none, their stages are skipped.
  --help

Examples
  npm run gpu-check                          here: pack
  tar -xJf gpu-check.tar.xz                  there: unpack; where xz is missing, python3 -m tarfile -e gpu-check.tar.xz
  sh gpu-check/run.sh --minutes 8            there: check and measure; the results are in gpu-check-results/
  sh gpu-check/run.sh --help                 there: all options
`;

async function main(): Promise<void> {
  const { out = join(ROOT, 'runs/gpu-check.tar.xz'), golden, help } = parse();
  if (help) {
    process.stdout.write(HELP);
    return;
  }
  if (process.platform !== 'linux')
    throw new Error(
      'the archive holds the Node of this machine, and CUDA machines run Linux: pack it on Linux',
    );
  const { GOLDEN_DIR, SHARED_DIR } = process.env;
  const folder = golden ?? GOLDEN_DIR ?? join(SHARED_DIR ?? join(ROOT, '../shared'), 'golden');
  const file = resolve(out);
  mkdirSync(dirname(file), { recursive: true });
  const { bytes, goldenBytes } = await pack({ root: ROOT, golden: resolve(folder), file, log });
  const mb = (value: number): string => `${(value / 1e6).toFixed(1)} MB`;
  log(`${file}: ${mb(bytes)}; vectors: ${mb(goldenBytes)} before compression.`);
  log('On the machine with the GPU: tar -xJf gpu-check.tar.xz && sh gpu-check/run.sh');
}

function parse() {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({ options: { out: text, golden: text, help: { type: 'boolean', short: 'h' } } }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`gpu-check: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
