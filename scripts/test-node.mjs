/**
 * Runs the addon's tests and one small training on another version of Node:
 *
 *   node scripts/test-node.mjs        the newest version with long-term support
 *   node scripts/test-node.mjs 22     another one
 *
 * The npm package `node` brings the binary, which is kept in node_modules/.cache. Needs a finished set-up.
 * Exit status 77: the binary could not be downloaded.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const NEWEST_LTS = '24';
/** Those that call the addon; the set-up's own tests compile one. */
const TESTS = [
  'tensor',
  'ops',
  'autograd',
  'nn',
  'optim',
  'random',
  'safetensors',
  'scope',
  'errors',
  'out-of-memory',
];

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [version = NEWEST_LTS] = process.argv.slice(2);
if (!/^\d+(\.\d+){0,2}$/.test(version)) {
  console.error(
    `${version} is no version of Node. Usage: node scripts/test-node.mjs [version, such as ${NEWEST_LTS}]`,
  );
  process.exit(2);
}
const node = nodeBinary();
run(node, ['--version']);
run(node, [
  'node_modules/vitest/vitest.mjs',
  'run',
  ...TESTS.map((name) => `packages/torch/test/${name}.test.ts`),
]);
await trainOnce();

/** Path of the wanted Node, downloaded where it is not there yet. */
function nodeBinary() {
  const folder = join(root, 'node_modules/.cache', `node-${version}`);
  const binary = join(folder, 'node_modules/node/bin/node');
  if (!existsSync(binary)) {
    mkdirSync(folder, { recursive: true });
    const quiet = ['--no-save', '--no-audit', '--no-fund', '--loglevel=error', '--fetch-retries=0'];
    spawnSync('npm', ['install', ...quiet, '--prefix', folder, `node@${version}`], {
      stdio: 'inherit',
      timeout: 30_000,
    });
  }
  if (!existsSync(binary)) {
    console.error(`Node ${version} could not be downloaded (npm package "node"); nothing was tested.`);
    process.exit(77);
  }
  return binary;
}

/** Two updates of a network of a few weights on a handful of images. */
async function trainOnce() {
  const folder = mkdtempSync(join(tmpdir(), 'patch-diffusion-node-'));
  try {
    const images = join(folder, 'images');
    mkdirSync(images);
    const sharp = createRequire(join(root, 'packages/patch-diffusion/package.json'))('sharp');
    for (const grey of [40, 90, 140, 190]) {
      const create = { width: 16, height: 16, channels: 3, background: { r: grey, g: 255 - grey, b: 100 } };
      await sharp({ create }).toFile(join(images, `${grey}.png`));
    }
    const options =
      '--resolution 16 --model-channels 4 --num-blocks 1 --batch 4 --duration-kimg 0.008 --sample-ticks none --seed 1';
    const out = join(folder, 'runs');
    const cli = join(root, 'packages/patch-diffusion/bin/patch-diffusion.js');
    run(node, [cli, 'train', '--data', images, '--out', out, ...options.split(' ')]);
    const [name] = readdirSync(out);
    const snapshots = readdirSync(join(out, name), { recursive: true }).filter((path) =>
      path.endsWith('.safetensors'),
    );
    if (snapshots.length === 0) fail(`The training left no snapshot in ${name}.`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function run(program, args) {
  const { status, error } = spawnSync(program, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, OMP_NUM_THREADS: '1' },
    timeout: 60_000,
  });
  if (status !== 0) fail(`Node ${version}: ${args.join(' ')} failed${error ? `: ${error.message}` : ''}.`);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
