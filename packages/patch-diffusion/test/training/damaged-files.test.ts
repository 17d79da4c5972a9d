/** Runs whose newest files are damaged when they are resumed. */
import { cp, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { describePath } from '../../src/cli/info.js';
import { generate, train } from '../../src/index.js';
import { listStates, newestSnapshot } from '../../src/run/runs.js';
import type { TrainEvent } from '../../src/training/events.js';
import { iconSet, temporaryFolder } from '../helpers/tiny-run.js';
import { expectSameState, stateOf, tensorsOf, tinyOptions } from '../helpers/tiny-train.js';

let dir: string;
let finished: string;
beforeAll(async () => {
  dir = await temporaryFolder();
  finished = join(dir, 'finished');
  await train({
    ...{ data: await iconSet(dir), ...tinyOptions, durationKimg: 0.3, out: finished },
    ...{ tickKimg: 0.1, stateTicks: 1, snapshotTicks: 1, sampleTicks: null },
  });
});

/** A copy of the finished run. */
async function copyOf(name: string): Promise<{ run: string; states: string[]; snapshot: string }> {
  const run = join(dir, name);
  await cp(finished, run, { recursive: true });
  return { run, states: await listStates(run), snapshot: (await newestSnapshot(run))! };
}

async function flipByte(file: string, at = -100): Promise<void> {
  const bytes = await readFile(file);
  bytes[(at + bytes.length) % bytes.length] ^= 4;
  await writeFile(file, bytes);
}

async function resume(run: string): Promise<string[]> {
  const warnings: string[] = [];
  const note = (event: TrainEvent) => event.type === 'warning' && warnings.push(event.message);
  await train({ resume: run, durationKimg: 0.3 }, { onEvent: note });
  return warnings;
}

describe('a damaged state', () => {
  const flip = (file: string) => flipByte(file);
  const cut = async (file: string) => truncate(file, (await readFile(file)).length - 1);
  const empty = (file: string) => writeFile(file, '');
  it.each([
    ['a changed bit', flip],
    ['a missing end', cut],
    ['no contents', empty],
  ])(
    'with %s is set aside, and the run goes on from the one before to the same end',
    async (name, damage) => {
      const { run, states } = await copyOf(name.replaceAll(' ', '-'));
      await damage(states[1]);
      const [damaged, ...superseded] = await resume(run);
      expect(damaged).toContain(`it is now ${states[1]}.damaged`);
      expect(damaged).toMatch(/the run goes on from the state before/);
      expect(superseded.join()).toMatch(/what the run had written beyond .* is now in .*superseded/);
      expect(await readdir(join(run, 'state'))).toContain(`${basename(states[1])}.damaged`);
      expectSameState(await stateOf(run), await stateOf(finished));
    },
  );

  it('is left alone where no other one is whole', async () => {
    const { run, states } = await copyOf('hopeless');
    for (const state of states) await flipByte(state);
    await expect(resume(run)).rejects.toThrow(
      /each of 2 states of .*hopeless is damaged \(.*sha256.*\); start a new run, with --transfer/,
    );
    expect(await listStates(run)).toEqual(states);
    expect(await readdir(run)).not.toContain('lock');
  });

  it('that was named is refused', async () => {
    const { states } = await copyOf('named');
    await flipByte(states[1]);
    await expect(train({ resume: states[1], durationKimg: 1 })).rejects.toThrow(/sha256.*use an earlier one/);
    await expect(describePath(states[1], { verify: true })).rejects.toThrow(/sha256/);
    expect(await describePath(states[0], { verify: true })).toMatchObject({ kind: 'state' });
  });
});

it('a damaged snapshot is not sampled from, and is written again where its state is there', async () => {
  const { run, snapshot } = await copyOf('snapshot');
  await flipByte(snapshot);
  const sample = () => generate({ run, count: 1, steps: 2, out: join(dir, 'sampled') });
  await expect(sample()).rejects.toThrow(/network-snapshot.*sha256.*use an earlier one/);
  const json = join(run, 'run.json');
  await writeFile(json, (await readFile(json, 'utf8')).replace('"status": "done"', '"status": "running"'));
  expect(await resume(run)).toEqual([expect.stringContaining(`it is now ${snapshot}.damaged`)]);
  expectSameState(await tensorsOf(snapshot), await tensorsOf((await newestSnapshot(finished))!));
  await sample();
});

it('a state without checksum is resumed as before', async () => {
  const { run, states } = await copyOf('older');
  const text = await readFile(states[1], 'latin1');
  // The name of the same length is an entry that nothing reads.
  await writeFile(states[1], text.replace('"sha256":"', '"shaXXX":"'), 'latin1');
  await train({ resume: run, durationKimg: 0.4 });
  expect((await readdir(join(run, 'state'))).some((name) => name.endsWith('.damaged'))).toBe(false);
});
