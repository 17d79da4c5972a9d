/** Packing and running the check of a GPU machine; the whole of it is tried by hand (docs/performance.md). */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { archiveEntries, checkSize, goldenFiles, packageClosure } from '../src/gpu-check/contents.js';
import { GOLDEN, IMAGE_SET } from '../src/gpu-check/golden-folders.js';
import { LIMITS, pack } from '../src/gpu-check/pack.js';
import { Report } from '../src/gpu-check/report.js';
import { parseResult, type Result, type StageOutcome } from '../src/gpu-check/results.js';
import { OutOfTime, runStages, type Stage } from '../src/gpu-check/run-stages.js';
import { stageWork } from '../src/gpu-check/stages/index.js';
import { stageNames } from '../src/gpu-check/stages.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gpu-check-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const ok: Result = { name: 'a sum', status: 'ok', detail: 'is right' };
const broken: Result = { name: 'a product', status: 'failed', detail: 'is wrong' };

/** A stage of fakes that needs 10 s. */
function stage(name: string, run: Stage['run'], more: Partial<Stage> = {}): Stage {
  return { name, needsSec: 10, run, ...more };
}

/** Runs stages; each advances the clock by 30 s. */
async function outcomesOf(stages: readonly Stage[], budgetSec = 1000): Promise<StageOutcome[]> {
  let time = 0;
  return runStages(stages, {
    ...{ budgetSec, onResult: () => {}, clock: () => time },
    onStage: () => {
      time += 30;
    },
  });
}

const brief = (outcomes: readonly StageOutcome[]) =>
  outcomes.map(({ stage: name, status, reason }) => [name, status, reason]);

describe('stages', () => {
  it('go on after one that throws or has a failed result, which are reported', async () => {
    const outcomes = await outcomesOf([
      stage('first', async (emit) => emit(ok)),
      stage('throws', async (emit) => {
        emit(ok);
        throw new Error('no kernel image');
      }),
      stage('wrong', async (emit) => [ok, broken].forEach(emit)),
      stage('last', async (emit) => emit(ok)),
    ]);
    expect(brief(outcomes)).toEqual([
      ['first', 'ok', null],
      ['throws', 'failed', 'no kernel image'],
      ['wrong', 'failed', 'a product: is wrong'],
      ['last', 'ok', null],
    ]);
    expect(outcomes[1].results).toEqual([ok]);
  });

  it('are skipped with the reason when the time, or what they need, is missing', async () => {
    const never = async (): Promise<void> => expect.unreachable();
    const late = await outcomesOf(
      [
        stage('slow', async (emit) => {
          emit(ok);
          throw new OutOfTime('its time was over');
        }),
        stage('absent', never, { skip: 'nothing there' }),
        stage('too late', never),
      ],
      65,
    );
    expect(brief(late)).toEqual([
      ['slow', 'skipped', 'its time was over'],
      ['absent', 'skipped', 'nothing there'],
      ['too late', 'skipped', '5 s were left and it needs about 10 s'],
    ]);
    const lost = await outcomesOf([
      stage('build', () => Promise.reject(new Error('no compiler')), { isRequired: true }),
      stage('next', never),
    ]);
    expect(brief(lost)[1]).toEqual(['next', 'skipped', 'it needs the stage build']);
  });

  it('all have work', () => {
    expect(stageNames.filter((name) => !stageWork[name])).toEqual([]);
  });

  it('hand over results as lines', () => {
    expect(parseResult(JSON.stringify(broken))).toEqual(broken);
    expect(() => parseResult('{"name":"a sum"}')).toThrow('internal: no result');
  });
});

describe('the report', () => {
  it('has each result at once, and all so far after each stage', async () => {
    const out = join(folder, 'out');
    const report = new Report(out, { device: 'cpu', minutes: 1, date: 'today', node: 'v20' });
    const read = (name: string) => readFileSync(join(out, name), 'utf8');
    const faster: Result = { name: 'ours over theirs', status: 'ok', detail: '', figures: { ratio: 2.5 } };
    const seen: string[] = [];
    const outcomes = await runStages(
      [
        stage('one', async (emit) => {
          emit(ok);
          seen.push(read('results.jsonl'));
        }),
        stage('two', async (emit) => {
          seen.push(read('gpu-check.md'));
          emit(faster);
          throw new Error('a | b\nc');
        }),
      ],
      {
        budgetSec: 100,
        onResult: (name, result) => report.add(name, result),
        onStage: (all) => report.write(all, false),
      },
    );
    expect(JSON.parse(seen[0])).toEqual({ stage: 'one', ...ok });
    expect(seen[1]).toContain('| one | ok |');
    expect(seen[1]).toContain('**not finished**');
    await report.write(outcomes, true);
    expect(read('gpu-check.md')).toContain('| two | failed | 0.0 | 1 ok | a \\| b c |');
    expect(read('gpu-check.md')).toContain('| two | ours over theirs | **2.50 ×**');
    expect(read('gpu-check.md')).not.toContain('not finished');
    const whole = JSON.parse(read('gpu-check.json'));
    expect(whole).toMatchObject({
      device: 'cpu',
      isDone: true,
      stages: [{ stage: 'one' }, { status: 'failed' }],
    });
  });
});

describe('the archive', () => {
  it('lists files that are there, each once, and packages with all that they depend on', () => {
    const entries = archiveEntries(root);
    expect(entries.filter(({ from }) => !existsSync(from))).toEqual([]);
    expect(new Set(entries.map(({ to }) => to)).size).toBe(entries.length);
    expect(packageClosure(root, ['sharp'])).toEqual(
      expect.arrayContaining(['sharp', 'detect-libc', 'semver']),
    );
    expect(() => packageClosure(root, ['no-such-package'])).toThrow('npm run setup');
  });

  it('takes the vectors of the list, and names one that is missing', async () => {
    const golden = join(folder, 'golden');
    expect(goldenFiles(golden)).toEqual([]);
    await mkdir(join(golden, 'layers'), { recursive: true });
    await mkdir(join(golden, 'training'));
    await mkdir(join(golden, 'dataset'));
    for (const file of ['layers/any.safetensors', 'layers/notes.txt', IMAGE_SET])
      await writeFile(join(golden, file), '');
    const [first] = GOLDEN.training as readonly string[];
    expect(() => goldenFiles(golden)).toThrow(`${first}.safetensors is missing`);
    await rm(join(golden, 'training'), { recursive: true });
    expect(goldenFiles(golden)).toEqual(['layers/any.safetensors', IMAGE_SET]);
  });

  it('is refused when it, or the vectors in it, are too large', async () => {
    expect(() => checkSize('the archive', 61e6, LIMITS.archiveBytes)).toThrow(
      'the archive: 61.0 MB, and at most 60.0 MB are allowed',
    );
    checkSize('the archive', 60e6, LIMITS.archiveBytes);
    const golden = join(folder, 'golden');
    await writeFile(join(golden, 'layers/large.safetensors'), new Uint8Array(LIMITS.goldenBytes + 1));
    const file = join(folder, 'archive.tar.xz');
    await expect(pack({ root, golden, file, log: () => {} })).rejects.toThrow('the chosen vectors: 20.0 MB');
    expect(existsSync(file)).toBe(false);
  });
});
