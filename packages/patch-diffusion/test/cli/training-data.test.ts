/** What a run says of its data, and how it finds them again. */
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { readRunJson } from '../../src/run/runs.js';
import { startCli } from '../helpers/cli.js';
import { type ImageSpec, imageFolder } from '../helpers/images.js';
import { temporaryFolder, tinyFlags } from '../helpers/tiny-run.js';

let dir: string;
beforeAll(async () => {
  dir = await temporaryFolder();
  for (const name of ['here', 'elsewhere']) await mkdir(join(dir, name));
});

/** Flat images, a folder a class. */
const classFolders = (name: string, classes: number) =>
  imageFolder(
    join(dir, name),
    Object.fromEntries(
      Array.from({ length: classes }, (_, i): [string, ImageSpec] => [
        `${String(i).padStart(3, '0')}/x.png`,
        [16, 16, `rgb(${i}, 90, 120)`],
      ]),
    ),
  );

const short = [...tinyFlags, '--duration-kimg', '0.01', '--nosubdir', '--sample-ticks', 'none'];
const train = (cwd: string, ...more: string[]) => startCli(['train', ...more], { cwd: join(dir, cwd) }).end;
const more = (kimg: string) => ['--duration-kimg', kimg];

it('labels that are not used are said once, with the option that uses them', async () => {
  const data = await classFolders('classes', 150);
  const { code, stderr } = await train('here', '--data', data, '--out', 'labels', ...short);
  expect(code, stderr).toBe(0);
  expect(stderr.match(/has labels \(150 classes\) that are not used; --cond trains on them/g)).toHaveLength(
    1,
  );
  const used = await train('here', '--data', data, '--cond', '--out', 'cond', ...short);
  expect([used.code, used.stderr.includes('not used')], used.stderr).toEqual([0, false]);
});

it('a run resumed from another folder finds the data where they were given', async () => {
  await classFolders('here/in', 20);
  expect((await train('here', '--data', 'in', '--out', 'run', ...short)).code).toBe(0);
  const { code, stderr } = await train('elsewhere', '--resume', '../here/run', ...more('0.1'));
  expect(code, stderr).toBe(0);
  expect((await readRunJson(join(dir, 'here/run')))!.config.data).toBe(join(dir, 'here/in'));

  await rename(join(dir, 'here/in'), join(dir, 'moved'));
  const lost = await train('elsewhere', '--resume', '../here/run', ...more('0.2'));
  expect(lost.code).toBe(1);
  expect(lost.stderr).toMatch(
    /^error: the data of the run, .*in, is not there; say with --data where it is now\n$/m,
  );
  const found = ['--data', '../moved', ...more('0.2')];
  expect((await train('elsewhere', '--resume', '../here/run', ...found)).code).toBe(0);
});

it('a run resumed with another number of images asks for --allow-data-change, and says what it means', async () => {
  const data = await classFolders('growing', 20);
  const out = join(dir, 'grown');
  expect((await train('here', '--data', data, '--out', out, ...short)).code).toBe(0);
  await classFolders('growing', 21);
  const refused = await train('here', '--resume', out, ...more('0.1'));
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/was trained on 20 images and the data now has 21; .*--allow-data-change/);
  const { code, stderr } = await train('here', '--resume', out, '--allow-data-change', ...more('0.1'));
  expect(code, stderr).toBe(0);
  expect(stderr).toMatch(/the data has 21 images, and had 20 when .* was saved; their order begins anew/);
  await rm(out, { recursive: true });
});
