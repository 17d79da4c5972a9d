import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describePath } from '../../src/cli/info.js';
import { infoText } from '../../src/cli/info-text.js';
import { programName } from '../../src/common/program-name.js';
import { createDenoiser } from '../../src/diffusion/preconditioning.js';
import { writeExport } from '../../src/interchange/export.js';
import { chooseSnapshot } from '../../src/run/choose-snapshot.js';
import { goldenDir } from '../helpers/golden.js';

let dir = '';
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'info-'));
});
afterAll(() => rm(dir, { recursive: true, force: true }));

describe('info', () => {
  it('knows what export writes', async () => {
    const shape = {
      imgResolution: 16,
      inChannels: 5,
      outChannels: 3,
      modelChannels: 8,
      channelMult: [1],
      numBlocks: 1,
    };
    const denoiser = createDenoiser({ type: 'pedm', network: { type: 'SongUNet', ...shape } });
    const { tensors } = await writeExport(join(dir, 'w.pt'), denoiser, denoiser.spec, 'torch');
    denoiser.dispose();
    const info = await describePath(join(dir, 'w.pt'));
    expect(info).toMatchObject({ kind: 'state-dict', tensors });
    expect(infoText(info)).toMatch(/^Kind +PyTorch state dict$/m);
  });

  const checkpoints = join(goldenDir, 'checkpoints', 'patch_ddpmpp');
  it.runIf(existsSync(checkpoints))('knows official checkpoints', async () => {
    const files = readdirSync(checkpoints);
    for (const [ending, kind] of [
      ['.pkl', 'official snapshot'],
      ['.pt', 'official training state'],
    ] as const) {
      const text = infoText(
        await describePath(join(checkpoints, files.find((name) => name.endsWith(ending))!)),
      );
      expect(text).toMatch(new RegExp(`^Kind +${kind}$`, 'm'));
      expect(text).toMatch(/^Network +SongUNet, 64×64 px$/m);
    }
  });

  it('says of other files what it would know', async () => {
    await writeFile(join(dir, 'notes.txt'), 'x');
    await expect(describePath(join(dir, 'notes.txt'))).rejects.toThrow(
      /notes\.txt is of no kind that info knows; name .*\.safetensors, or \.pkl and \.pt as import reads them/,
    );
  });
});

describe('which snapshot is meant', () => {
  it('names the other option where a file and a folder are confused', async () => {
    const run = join(dir, 'run');
    await mkdir(join(run, 'snapshots'), { recursive: true });
    await expect(chooseSnapshot({ run, network: null })).rejects.toThrow('has no snapshot yet');
    const file = join(run, 'snapshots', 'network-snapshot-000001.safetensors');
    await writeFile(file, '');
    expect(await chooseSnapshot({ run, network: null })).toBe(file);
    expect(await chooseSnapshot({ run: null, network: file })).toBe(file);
    await expect(chooseSnapshot({ run: file, network: null })).rejects.toThrow(
      `is a file; use --network ${file}`,
    );
    await expect(chooseSnapshot({ run: null, network: run })).rejects.toThrow(`use --run ${run}`);
    await expect(chooseSnapshot({ run: join(dir, 'no'), network: null })).rejects.toThrow('does not exist');
  });
});

it('calls the program as a shell finds it', async () => {
  const bin = join(dir, 'bin');
  const ofNpm = join(dir, 'node_modules', '.bin');
  for (const folder of [bin, ofNpm]) {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'patch-diffusion'), '');
  }
  expect(programName(`/nowhere:${bin}`)).toBe('patch-diffusion');
  // npx and npm scripts put this folder in front of PATH; the user's shell does not have it.
  expect(programName(ofNpm)).toBe('npx patch-diffusion');
  expect(programName('')).toBe('npx patch-diffusion');
});
