import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { temporaryPath } from '@patch-diffusion/torch/atomic-file';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { preparedName } from '../../src/data/names.js';
import { openSource } from '../../src/data/source.js';
import { zipArchive } from '../../src/formats/zip-writer.js';
import { createDatasetWriter } from '../../src/prepare/dataset-writer.js';
import { LatentWriter } from '../../src/prepare/latent-writer.js';

let scratch: string;
beforeAll(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'patch-diffusion-writer-'));
});
afterAll(() => rm(scratch, { recursive: true, force: true }));

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

const hasPython = spawnSync('python3', ['-I', '-c', 'import zipfile']).status === 0;

/** A file system of its own that is mounted on an empty folder. */
const emptyDisk = ['/dev/shm', '/dev/mqueue'].find(
  (path) => existsSync(path) && statSync(path).dev !== statSync('/dev').dev && !readdirSync(path).length,
);

describe('datasets as zips', () => {
  it('are written as they come: memory does not grow with the set', async () => {
    const writer = await createDatasetWriter(join(scratch, 'large.zip'));
    const added: WeakRef<Buffer>[] = [];
    for (let i = 0; i < 300; i++) {
      const image = randomBytes(200_000);
      added.push(new WeakRef(image));
      await writer.add(preparedName(i), image);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
    collectGarbage();
    expect(added.filter((image) => image.deref() !== undefined).length).toBeLessThan(5);
    expect(await writer.finish()).toBeGreaterThan(300 * 200_000);
  });

  it.skipIf(!hasPython)('are read by Python (skipped where there is none)', async () => {
    const path = join(scratch, 'python.zip');
    const writer = await createDatasetWriter(path);
    await writer.add('00000/img00000000.png', Buffer.from('first'));
    await writer.add('Größe/ü.txt', Buffer.alloc(70_000, 'x'));
    await writer.finish();
    const script = `
import sys, zipfile
z = zipfile.ZipFile(sys.argv[1])
assert z.testzip() is None
print([(i.filename, i.file_size, i.compress_type, i.date_time[:3]) for i in z.infolist()], z.read('00000/img00000000.png'))`;
    const { stdout, stderr } = spawnSync('python3', ['-I', '-c', script, path], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(stdout.trim()).toBe(
      "[('00000/img00000000.png', 5, 0, (1980, 1, 1)), ('Größe/ü.txt', 70000, 0, (1980, 1, 1))] b'first'",
    );
  });

  it('have room for more members than the old format counts', async () => {
    const path = join(scratch, 'many.zip');
    const members = Array.from({ length: 66_000 }, (_, i) => ({
      name: preparedName(i),
      data: Buffer.from('x'),
    }));
    const parts: Uint8Array[] = [];
    for await (const part of zipArchive(members)) parts.push(part);
    await writeFile(path, Buffer.concat(parts));
    const source = await openSource(path);
    expect(source.names.length).toBe(66_000);
    await source.close();
  });
});

/** The number of a process that has ended. */
async function deadProcess(): Promise<number> {
  return spawnSync(process.execPath, ['-e', '']).pid;
}

it.each(['photos.zip', 'photos', 'latents.safetensors'])(
  '%s: what a killed process left is removed',
  async (name) => {
    const folder = await mkdtemp(join(scratch, 'leftovers-'));
    const left = [
      `.${name}.${await deadProcess()}.tmp`,
      `.${basename(temporaryPath(name)).replace(/^\./, '')}`,
    ];
    await mkdir(join(folder, left[0]));
    await writeFile(join(folder, left[0], 'x'), '');
    // That of a living process stays.
    await writeFile(join(folder, left[1]), '');
    const path = join(folder, name);
    const writer = name.includes('latents')
      ? await LatentWriter.create(path, {})
      : await createDatasetWriter(path);
    await writer.discard();
    expect(await readdir(folder)).toEqual([left[1]]);
  },
);

it.skipIf(!existsSync('/proc/self'))('below /proc: an error at once (skipped without it)', async () => {
  await expect(createDatasetWriter('/proc/x/photos.zip')).rejects.toMatchObject({ code: 'OUT_WRITE' });
  await expect(LatentWriter.create('/proc/x/latents.safetensors', {})).rejects.toMatchObject({
    code: 'OUT_WRITE',
  });
});

describe('datasets as folders', () => {
  const write = async (path: string, text: string) => {
    const writer = await createDatasetWriter(path, { force: true });
    await writer.add('00000/img00000000.png', Buffer.from(text));
    await writer.add('dataset.json', Buffer.from('{"labels": null}'));
    return writer;
  };
  const content = (path: string) => readFile(join(path, '00000/img00000000.png'), 'utf8');

  it('replace another one only when they are complete', async () => {
    const parent = join(scratch, 'replace');
    const path = join(parent, 'set');
    await (await write(path, 'one')).finish();
    await (await write(path, 'two')).discard();
    expect(await content(path)).toBe('one');
    await (await write(path, 'three')).finish();
    expect(await content(path)).toBe('three');
    expect(await readdir(parent)).toEqual(['set']);
  });

  it('leave the old one where the new one cannot be put in its place', async () => {
    const parent = join(scratch, 'fails');
    const path = join(parent, 'set');
    await (await write(path, 'old')).finish();
    const writer = await createDatasetWriter(path, { force: true });
    // The folder to be renamed is gone by the time of the renaming.
    const [temporary] = (await readdir(parent)).filter((name) => name !== 'set');
    await rm(join(parent, temporary), { recursive: true });
    await expect(writer.finish()).rejects.toMatchObject({ code: 'OUT_WRITE' });
    expect(await content(path)).toBe('old');
    expect(await readdir(parent)).toEqual(['set']);
  });

  it('are not put in the place of something else', async () => {
    const path = join(scratch, 'else');
    await mkdir(path);
    await createDatasetWriter(path).then((writer) => writer.discard()); // empty: it may go
    await writeFile(join(path, 'precious.txt'), '');
    await expect(createDatasetWriter(path, { force: true })).rejects.toMatchObject({ code: 'OUT_EXISTS' });
  });

  it('that were about to be replaced come back when the process was killed', async () => {
    const parent = join(scratch, 'killed');
    const path = join(parent, 'set');
    await (await write(path, 'old')).finish();
    await rename(path, join(parent, `.set.${await deadProcess()}.old`));
    await expect(createDatasetWriter(path)).rejects.toMatchObject({ code: 'OUT_EXISTS' });
    expect(await content(path)).toBe('old');
    await mkdir(join(parent, `.set.${await deadProcess()}.old`));
    await (await write(path, 'new')).finish();
    expect([await content(path), await readdir(parent)]).toEqual(['new', ['set']]);
  });

  it.skipIf(emptyDisk === undefined)('are not put in the place of a disk', async () => {
    await expect(createDatasetWriter(emptyDisk!)).rejects.toThrow(/is a disk of its own.*write to a folder/);
  });
});
