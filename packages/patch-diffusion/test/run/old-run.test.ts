/** A run folder that version 0.1.0 wrote: the README beside it says how. */
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { generate, newestSnapshot, newestState, readRunJson, train } from '../../src/index.js';
import { temporaryFolder } from '../helpers/tiny-run.js';

const fixture = fileURLToPath(new URL('../fixtures/old-run', import.meta.url));

/** A copy of the fixture: the data's folder and the run's. */
async function copyOfRun(): Promise<{ data: string; run: string }> {
  const folder = await temporaryFolder();
  await cp(fixture, folder, { recursive: true });
  return { data: join(folder, 'cats-16.zip'), run: join(folder, 'runs/00000-cats-16-old') };
}

describe('a run of an earlier version', () => {
  it('is resumed', async () => {
    const { data, run } = await copyOfRun();
    const result = await train({ resume: run, data, durationKimg: 1.4, stateTicks: 1 });
    expect(result).toMatchObject({ runDir: run, interrupted: false });
    expect(result.nimg).toBeGreaterThanOrEqual(1400);
    expect(await readRunJson(run)).toMatchObject({ status: 'done', nimg: result.nimg });
    expect(await newestState(run)).not.toBeNull();
    expect((await newestSnapshot(run))!).toBe(result.snapshot);
  });

  it('is sampled from', async () => {
    const { run } = await copyOfRun();
    const out = await temporaryFolder();
    const { files } = await generate({ run, out, count: 2, steps: 3 });
    expect(files).toHaveLength(2);
  });
});
