/** `patch-diffusion info`: what a path is, for people or as JSON. */

import type { Command } from 'commander';
import { usageError } from '../../common/errors.js';
import * as f from '../../config/fields.js';
import type { PatchSuggestion } from '../../evaluation/suggest-patches.js';
import { addFields, readFlags } from '../flags.js';
import type { Description } from '../info.js';
import { countLine } from '../progress.js';
import { print, withLine } from '../terminal.js';

const HELP = `
Examples:
  $ patch-diffusion info runs
  $ patch-diffusion info runs/00000-photos-64
  $ patch-diffusion info runs/00000-photos-64/snapshots/network-snapshot-000200.safetensors
  $ patch-diffusion info photos-64.zip --json
  $ patch-diffusion info photos --suggest 64`;

const fields = {
  verify: f.boolean('Decode every image of a data set; compare a snapshot or state with its checksum', {
    default: false,
  }),
  suggest: f.int(
    'Also propose --patch-sizes for training on this data set with images of this side: the smallest patches in which a pixel finds the context that helps, at each noise level; takes some seconds to minutes',
    { unit: 'px', min: 16, max: 64, nullWord: 'none' },
  ),
  json: f.boolean('Print JSON', { default: false }),
};

export function register(program: Command): void {
  const command = program
    .command('info')
    .description('Describe a run folder, a folder of runs, a snapshot or state, or a data set.')
    .argument(
      '<path>',
      'Run folder, folder of runs, .safetensors, .pkl or .pt file, folder or zip of images',
    );
  addFields(command, fields);
  command.addHelpText('after', HELP).action(async (path: string, given: Record<string, unknown>) => {
    const { json, verify, suggest } = readFlags(fields, given);
    const { describePath } = await import('../info.js');
    const { infoText, suggestionText } = await import('../info-text.js');
    const info = await describePath(path, { verify });
    const patches = suggest ? await suggestionFor(info, suggest) : null;
    if (json) print(JSON.stringify({ ...info, ...(patches ? { patches } : {}) }, null, 2));
    else print([infoText(info), ...(patches ? [suggestionText(patches)] : [])].join('\n\n'));
  });
}

async function suggestionFor(info: Description, sidePx: number): Promise<PatchSuggestion> {
  if (info.kind !== 'data')
    throw usageError('NO_DATA_SET', '--suggest is about data sets; name a folder or zip of images');
  const { openImages } = await import('../../data/open-images.js');
  const { suggestPatches } = await import('../../evaluation/suggest-patches.js');
  const images = await openImages(info.data.path, { resolution: sidePx, labels: false });
  try {
    return await withLine((line) =>
      suggestPatches(images, (done, total) => line.set(countLine('looking at patches', done, total))),
    );
  } finally {
    await images.close();
  }
}
