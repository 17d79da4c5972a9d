/**
 * Makes a ready-made network of a run: its newest snapshot with weights of 16 bits, without what says on which machine and
 * from which folders it was trained. docs/models.md has the commands of those that come along.
 *
 *     node packages/patch-diffusion/scripts/pack-model.mjs RUN NAME "LICENCE AND DATA"
 */
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as torch from '@patch-diffusion/torch';
import { trainFields } from '../dist/config/train-options.js';
import { METADATA_KEY } from '../dist/formats/file-description.js';
import { loadSnapshot } from '../dist/interchange/snapshot.js';
import { newestSnapshot } from '../dist/run/runs.js';

const [run, name, license] = process.argv.slice(2);
if (license === undefined) {
  console.error('usage: pack-model.mjs RUN NAME "LICENCE AND DATA"');
  process.exit(2);
}
const snapshot = await newestSnapshot(run);
if (snapshot === null) throw new Error(`${run} has no snapshot`);
const { denoiser, info } = await loadSnapshot(snapshot);
const elsewhere = ['out', 'desc', 'resume', 'transfer', 'device', 'threads', 'nosubdir'];
const train = { ...info.train, data: basename(info.train.data) };
for (const key of elsewhere) train[key] = trainFields[key].default ?? null;
const tensors = new Map(
  [...denoiser.stateDict()].map(([key, tensor]) => [key, tensor.to({ dtype: 'float16' })]),
);
const file = fileURLToPath(new URL(`../models/${name}.safetensors`, import.meta.url));
const metadata = {
  format: 'pt',
  license,
  [METADATA_KEY]: JSON.stringify({ ...info, train, dataset: { ...info.dataset, name } }),
};
await torch.writeSafetensors(file, tensors, metadata, { checksum: true });
console.log(file);
