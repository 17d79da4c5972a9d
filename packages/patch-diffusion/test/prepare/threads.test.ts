/** Many images are made in threads (in the built program; the sources have none): the result is that of one thread. */
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { beforeAll, expect, it } from 'vitest';
import { prepare } from '../../src/index.js';
import { runCli } from '../helpers/cli.js';
import { temporaryFolder } from '../helpers/tiny-run.js';
import { zipBytes } from '../helpers/zip.js';

let dir: string;
let folder: string;

beforeAll(async () => {
  dir = await temporaryFolder();
  folder = join(dir, 'images');
  await mkdir(folder);
  for (let i = 0; i < 150; i++) {
    const [width, height, channels] = [20 + (i % 50), 20 + ((7 * i) % 40), i % 5 === 0 ? 4 : 3] as const;
    const data = Uint8Array.from({ length: width * height * channels }, (_, k) => (k * k * 31 + i * k) % 256);
    const image = sharp(data, { raw: { width, height, channels } });
    const isPng = i % 3 > 0 || channels === 4;
    await (isPng ? image.png() : image.jpeg()).toFile(join(folder, `${i}.${isPng ? 'png' : 'jpg'}`));
  }
  await writeFile(join(folder, '77x.png'), 'no image');
  await writeFile(join(folder, '78x.jpg'), '');
});

it.each(['3', '4'])('with %s channels, of a folder and of a zip', async (channels) => {
  const flags = ['--resolution', '24', '--channels', channels];
  const expected = join(dir, `here-${channels}.zip`);
  const report = await prepare({
    source: folder,
    out: expected,
    resolution: 24,
    channels: Number(channels) as 3 | 4,
  });
  const bytes = await readFile(expected);
  const archive = join(dir, `source-${channels}.zip`);
  const names = await readdir(folder);
  const files = await Promise.all(names.map(async (name) => [name, await readFile(join(folder, name))]));
  await writeFile(archive, zipBytes(Object.fromEntries(files)));
  const out = join(dir, `threads-${channels}.zip`);
  for (const source of [folder, archive]) {
    const { code, stderr } = await runCli(['prepare', source, '--out', out, ...flags, '--force']);
    expect(code, stderr).toBe(0);
    expect(Buffer.compare(await readFile(out), bytes)).toBe(0);
    for (const { file, reason } of report.skipped) expect(stderr).toContain(`skipped ${file}: ${reason}`);
    expect(stderr.includes('were enlarged')).toBe(true);
  }
});

it('the first unusable image ends a strict run, and nothing is left', async () => {
  const out = join(dir, 'strict.zip');
  const { code, stderr } = await runCli([
    'prepare',
    folder,
    '--out',
    out,
    '--resolution',
    '24',
    '--channels',
    '3',
    '--strict',
  ]);
  expect(code).toBe(1);
  expect(stderr).toContain('77x.png');
  expect((await readdir(dir)).filter((name) => name.includes('strict'))).toEqual([]);
});
