import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileWriteError, removeLeftovers, temporaryPath, writeFileAtomic } from '../src/atomic-file.js';
import { makeFolder } from '../src/make-folder.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'atomic-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('writeFileAtomic', () => {
  it('writes text, bytes and streams, and leaves nothing else', async () => {
    await writeFileAtomic(join(folder, 'a'), 'é');
    await writeFileAtomic(join(folder, 'b'), Uint8Array.of(1, 2));
    await writeFileAtomic(join(folder, 'c'), ['x', Uint8Array.of(121)]);
    async function* stream(): AsyncGenerator<string> {
      yield 'one ';
      yield 'two';
    }
    await writeFileAtomic(join(folder, 'a'), stream());
    expect((await readdir(folder)).sort()).toEqual(['a', 'b', 'c']);
    expect(await readFile(join(folder, 'a'), 'utf8')).toBe('one two');
    expect([...(await readFile(join(folder, 'b')))]).toEqual([1, 2]);
    expect(await readFile(join(folder, 'c'), 'utf8')).toBe('xy');
  });

  it('keeps the old file and removes its own when the source fails', async () => {
    const path = join(folder, 'a');
    await writeFile(path, 'old');
    async function* failing(): AsyncGenerator<string> {
      yield 'new';
      throw new Error('source broke');
    }
    await expect(writeFileAtomic(path, failing())).rejects.toThrow('source broke');
    expect(await readFile(path, 'utf8')).toBe('old');
    expect(await readdir(folder)).toEqual(['a']);
  });

  it('says what is wrong and what to do', async () => {
    const path = join(folder, 'no', 'a');
    const expected = {
      code: 'ENOENT',
      path,
      message: expect.stringMatching(/cannot write .*create it first/),
    };
    await expect(writeFileAtomic(path, 'x')).rejects.toBeInstanceOf(FileWriteError);
    await expect(writeFileAtomic(path, 'x')).rejects.toMatchObject(expected);
    await expect(writeFileAtomic(folder, 'x')).rejects.toThrow(/a folder of that name is in the way/);
    expect(await readdir(folder)).toEqual([]);
  });

  it('survives names near the file system limit', async () => {
    const path = join(folder, 'n'.repeat(250));
    await writeFileAtomic(path, 'x');
    expect(existsSync(path)).toBe(true);
  });
});

describe('leftovers of killed writers', () => {
  /** Starts a process that writes to `target` and kills it in the middle. @returns the name it left */
  async function killedWriter(target: string): Promise<string> {
    const code = `
      import { writeFileAtomic } from ${JSON.stringify(new URL('../dist/atomic-file.js', import.meta.url))};
      await writeFileAtomic(process.argv[1], (async function* () {
        yield 'a part';
        process.kill(process.pid, 'SIGKILL');
        await new Promise((resolve) => setTimeout(resolve, 10_000));
      })());`;
    const before = await readdir(folder);
    const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code, target]);
    expect(signal).toBe('SIGKILL');
    const made = (await readdir(folder)).filter((name) => !before.includes(name));
    expect(made).toHaveLength(1);
    return made[0];
  }

  it('are removed when the next process writes to the folder, and only they', async () => {
    const target = join(folder, 'a.b.safetensors');
    await killedWriter(target);
    const others = ['.hidden', 'a.tmp', '.b.tmp', '.c.zip.1-0a1b2c3d.tmp'];
    for (const name of others) await writeFile(join(folder, name), 'x');
    const mine = temporaryPath(join(folder, 'd'));
    await writeFile(mine, 'being written by this process');
    await writeFileAtomic(target, 'whole');
    expect((await readdir(folder)).sort()).toEqual([...others, basename(mine), 'a.b.safetensors'].sort());
  });

  it('removeLeftovers removes files and folders, of earlier versions too', async () => {
    const left = await killedWriter(join(folder, 'a'));
    const pid = /-(\d+)-/.exec(left)?.[1];
    // Of the earlier names the second has a random part of digits only.
    const gone = [left, `.b.c.${pid}-0a1b2c3d.tmp`, `.b.c.${pid}-12345678.tmp`, `.d.zip.${pid}.tmp`];
    for (const name of gone.slice(1)) await mkdir(join(folder, name));
    await writeFile(join(folder, gone[1], 'inside'), 'x');
    expect((await removeLeftovers(folder)).sort()).toEqual(gone.sort());
    expect(await readdir(folder)).toEqual([]);
    expect(await removeLeftovers(join(folder, 'none'))).toEqual([]);
  });

  it('of a process with the same number, or of another machine, are judged by their age', async () => {
    const mine = basename(temporaryPath(join(folder, 'a')));
    const theirs = '.b.another_machine-1-0a1b2c3d.tmp';
    for (const name of [mine, theirs]) await writeFile(join(folder, name), 'x');
    expect(await removeLeftovers(folder)).toEqual([]);
    const hoursAgo = (hours: number) => new Date(Date.now() - hours * 3_600_000);
    for (const name of [mine, theirs]) await utimes(join(folder, name), hoursAgo(2), hoursAgo(2));
    expect(await removeLeftovers(folder)).toEqual([mine]);
    await utimes(join(folder, theirs), hoursAgo(25), hoursAgo(25));
    expect(await removeLeftovers(folder)).toEqual([theirs]);
  });
});

describe('makeFolder', () => {
  it('makes what is missing and accepts what is there', async () => {
    makeFolder(join(folder, 'a/b/c'));
    makeFolder(join(folder, 'a/b'));
    expect(await readdir(join(folder, 'a'))).toEqual(['b']);
  });

  it('a file in the way is an error that names it', async () => {
    await writeFile(join(folder, 'file'), '');
    for (const path of ['file', 'file/a', 'file/a/b']) {
      expect(() => makeFolder(join(folder, path))).toThrow(
        expect.objectContaining({ code: 'EEXIST', path: join(folder, 'file') }),
      );
    }
  });

  it.skipIf(!existsSync('/proc/self'))('returns at once below /proc, where nothing can be made', () => {
    const code = `
      import { makeFolder } from ${JSON.stringify(new URL('../dist/make-folder.js', import.meta.url))};
      try { makeFolder('/proc/patch-diffusion/a'); } catch (error) { console.log(error.code); }`;
    const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect(signal, 'it had to be killed').toBeNull();
    expect(stdout).toMatch(/^(ENOENT|EACCES|EPERM)\n$/);
  });
});
