/** Names, metadata and values from outside never reach the terminal as control characters. */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as torch from '@patch-diffusion/torch';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { METADATA_KEY } from '../../src/formats/file-description.js';
import { runCli } from '../helpers/cli.js';

/** Writes to the clipboard of many terminals, then turns the text red. */
const EVIL = '\u001b]52;c;QQ\u0007\u001b[31m\u009b31m';
const SHOWN = '\\u001b]52;c;QQ\\u0007\\u001b[31m\\u009b31m';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'escapes-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

async function expectEscaped(...args: string[]): Promise<string> {
  const { stdout, stderr } = await runCli(args);
  const output = stdout + stderr;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what must not be there
  expect(output).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/);
  expect(output).toContain(SHOWN);
  return stdout;
}

describe('control characters are shown as escapes', () => {
  it('in names of files and classes', async () => {
    const folder = join(dir, `data${EVIL}`);
    for (const name of [EVIL, 'b']) {
      await mkdir(join(folder, name), { recursive: true });
      const image = sharp({ create: { width: 16, height: 16, channels: 3, background: 'red' } });
      await image.png().toFile(join(folder, name, `${EVIL}.png`));
      await writeFile(join(folder, name, `damaged${EVIL}.png`), 'x');
    }
    await expectEscaped('info', folder, '--verify');
    const json = JSON.parse(await expectEscaped('info', folder, '--json'));
    expect(json.data.labels.classes.map((one: { name: string }) => one.name)).toContain(EVIL);
    await expectEscaped('prepare', folder, '--out', join(dir, 'out.zip'));
    await expectEscaped('train', '--data', folder, '--preset', 'tiny', '--dry-run');
  });

  it('in the metadata of a snapshot', async () => {
    const file = join(dir, 'snapshot.safetensors');
    const info = {
      ...{ kind: 'snapshot', formatVersion: 1, nimg: 0, step: 0, train: null, loss: { type: 'edm' } },
      precond: {
        type: 'pedm',
        network: { type: 'SongUNet', imgResolution: 16, inChannels: 5, outChannels: 3, labelDim: 2 },
      },
      dataset: { name: EVIL, classNames: [EVIL, 'other'] },
    };
    const metadata = { [METADATA_KEY]: JSON.stringify(info) };
    using weight = torch.zeros([1]);
    await torch.writeSafetensors(file, [['weight', weight]], metadata);
    await expectEscaped('info', file);
  });

  it('in values of options, and in errors of a run', async () => {
    const config = join(dir, 'config.json');
    await writeFile(config, JSON.stringify({ data: 'x', arch: EVIL }));
    await expectEscaped('train', '--config', config);
    await writeFile(config, JSON.stringify({ [EVIL]: 1 }));
    await expectEscaped('generate', '--config', config);
    await expectEscaped('train', '--data', 'x', '--lr', EVIL);
    await expectEscaped('train', `--${EVIL}`);
    await expectEscaped(EVIL);
    await mkdir(join(dir, 'run'));
    const run = {
      ...{ format: 1, config: { data: EVIL, preset: EVIL }, status: 'failed', error: EVIL, version: '1' },
      ...{ pid: 1, host: 'h', startedAt: EVIL, heartbeat: '', step: 0, nimg: 0, totalNimg: 1 },
    };
    await writeFile(join(dir, 'run', 'run.json'), JSON.stringify(run));
    await expectEscaped('info', join(dir, 'run'));
  });

  it('because nothing else writes to the terminal', () => {
    const source = fileURLToPath(new URL('../../src/', import.meta.url));
    const files = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((n) => n.endsWith('.ts'));
    const code = (name: string) => readFileSync(join(source, name), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    const writers = files.filter((name) =>
      /process\.std(out|err)\.write|#stream\.write|console\./.test(code(name)),
    );
    expect(writers).toEqual([join('cli', 'terminal.ts')]);
  });
});
