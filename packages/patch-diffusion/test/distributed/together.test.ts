/** Two processes generate, evaluate and encode: the files of one, bit for bit. */
import { cp, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { distributedIsAvailable } from '@patch-diffusion/torch';
import { freePort } from '@patch-diffusion/torch/free-port';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Outcome, startCli } from '../helpers/cli.js';
import { ends } from '../helpers/rank-runs.js';
import { writeRamps, writeTinyAutoencoder } from '../helpers/tiny-autoencoder.js';

// libtorch before 2.0 has no process groups.
const suite = describe.skipIf(!distributedIsAvailable());
const OLD_RUN = fileURLToPath(new URL('../fixtures/old-run', import.meta.url));

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'together-'));
  await cp(OLD_RUN, dir, { recursive: true });
  await cp(join(dir, 'runs/00000-cats-16-old'), join(dir, 'run'), { recursive: true });
});
afterAll(() => rm(dir, { recursive: true, force: true }));

const at = (name: string) => join(dir, name);
const start = (command: string, env: Record<string, string> = {}) =>
  startCli(command.split(' '), { cwd: dir, env: { PATCH_DIFFUSION_CACHE: at('cache'), ...env } });

/** Of one process and of two, with `OUT` in the command as `one` and `two`. */
async function onceAndTogether(command: string): Promise<[one: Outcome, two: Outcome]> {
  const run = (out: string, more: string) => start(`${command.replaceAll('OUT', out)}${more}`).end;
  const outcomes: [Outcome, Outcome] = [await run('one', ''), await run('two', ' --nproc 2')];
  for (const { code, stderr } of outcomes) expect(code, stderr).toBe(0);
  return outcomes;
}

suite('two processes', () => {
  it('generate the images, the sheet and the list of files of one', async () => {
    const [one, two] = await onceAndTogether(
      'generate --run run --steps 2 --seeds 0-8 --batch 4 --threads 1 --out images-OUT --grid sheet-OUT.png',
    );
    expect(two.stdout).toBe(one.stdout.replaceAll('one', 'two'));
    const names = await readdir(at('images-one'));
    expect(names.filter((name) => name.endsWith('.png'))).toHaveLength(9);
    expect(await readdir(at('images-two'))).toEqual(names);
    const files = [...names.map((name) => `images-OUT/${name}`), 'sheet-OUT.png'];
    for (const name of files) {
      const [a, b] = await Promise.all(['one', 'two'].map((out) => readFile(at(name.replace('OUT', out)))));
      expect(Buffer.compare(a, b), name).toBe(0);
    }
  });

  it('evaluate to the figures of one', async () => {
    await onceAndTogether(
      'evaluate --run run --data cats-16.zip --metrics swd --count 10 --batch 4 --steps 2 --threads 1 --json OUT.json',
    );
    const [one, two] = await Promise.all(
      ['one.json', 'two.json'].map(async (name) => JSON.parse(await readFile(at(name), 'utf8')).results),
    );
    expect(one).toHaveLength(1);
    expect(two[0].metrics).toEqual(one[0].metrics);
    expect(two[0].samples).toEqual(one[0].samples);
    const lines = (await readFile(at('run/evaluations.jsonl'), 'utf8')).trim().split('\n');
    expect(lines).toHaveLength(2);
  });

  it('encode the latents of one', async () => {
    await writeTinyAutoencoder(at('autoencoder'));
    await writeRamps(at('ramps'), 11, { width: 16, height: 16, classes: 2 });
    await onceAndTogether(
      'prepare ramps --out OUT.safetensors --latents --autoencoder autoencoder --encode-batch 3 --xflip true --device cpu',
    );
    const [one, two] = await Promise.all(['one', 'two'].map((name) => readFile(at(`${name}.safetensors`))));
    expect(one.length).toBeGreaterThan(11 * 2 * 2 * 4 * 4 * 4 * 2);
    expect(Buffer.compare(one, two)).toBe(0);
  });

  it('end with one line where one of them fails', async () => {
    const common = { WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: String(await freePort()) };
    const command = 'generate --steps 2 --count 4 --out failing --run';
    const [first, second] = await ends([
      start(`${command} run`, { ...common, RANK: '0' }),
      start(`${command} elsewhere`, { ...common, RANK: '1' }),
    ]);
    expect([first.code, second.code]).toEqual([1, second.code]);
    expect(second.code).toBeGreaterThan(0);
    const [line, ...more] = second.stderr.trim().split('\n');
    expect(more).toEqual([]);
    expect(line).toMatch(/^error: .*elsewhere/);
    expect(first.stderr.trim()).toBe(`error: rank 1 has failed: ${line.replace('error: ', '')}`);
  });

  it('are of no use for images that are prepared without an autoencoder', async () => {
    const { code, stderr } = await start('prepare ramps --out ramps.zip --nproc 2').end;
    expect(code).toBe(2);
    expect(stderr).toMatch(/^error: several processes only help to encode --latents; /);
  });
});
