/** No vectors without a test: every folder and file of the golden folder is of a kind that some test here reads. */
import { existsSync, readdirSync } from 'node:fs';
import { expect, it } from 'vitest';
import { goldenDir } from '../helpers/golden.js';

/** Folders by test file name, with what each test reads in them. */
const GROUPS: Record<string, RegExp> = {
  augment: /^[^/]+\.safetensors$/,
  autoencoder: /^[^/]+(\.safetensors|\/(config\.json|[^/]+\.(safetensors|bin)))$/,
  checkpoints: /^[^/]+\/(expected\.safetensors|.*\.(pkl|pth?))$/,
  dataset: /^([^/]+\.(safetensors|zip)|source[^/]*\/.*)$/,
  fid: /^[^/]+\.(safetensors|npz)$/,
  layers: /^[^/]+\.safetensors$/,
  loss: /^[^/]+\.safetensors$/,
  networks: /^[^/]+\.safetensors$/,
  patches: /^[^/]+\.safetensors$/,
  precond: /^[^/]+\.safetensors$/,
  samplers: /^[^/]+\.safetensors$/,
  training: /^[^/]+\.safetensors$/,
};

const there = existsSync(goldenDir);

it.skipIf(!there)(
  `golden: every file has a test${there ? '' : ` (skipped: there is no ${goldenDir}; set SHARED_DIR or GOLDEN_DIR)`}`,
  () => {
    const files = readdirSync(goldenDir, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map(({ parentPath, name }) => `${parentPath}/${name}`.slice(goldenDir.replace(/\/$/, '').length + 1));
    const unread = files.filter((file) => {
      const [group, ...rest] = file.split('/');
      // What lies at the top describes the set (README, licence).
      return rest.length > 0 && !GROUPS[group]?.test(rest.join('/'));
    });
    expect(unread).toEqual([]);
  },
);
