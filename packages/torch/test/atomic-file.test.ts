import { existsSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { FileWriteError, removeLeftovers, writeFileAtomic } from '../src/atomic-file.js';

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

  it('leaves a file behind only when killed, which removeLeftovers takes away', async () => {
    for (const name of ['.a.safetensors.123-0a1b2c3d.tmp', '.hidden', 'a.tmp', '.b.tmp'])
      await writeFile(join(folder, name), 'x');
    expect(await removeLeftovers(folder)).toEqual(['.a.safetensors.123-0a1b2c3d.tmp']);
    expect((await readdir(folder)).sort()).toEqual(['.b.tmp', '.hidden', 'a.tmp']);
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
