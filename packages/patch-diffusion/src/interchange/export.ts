/** Snapshots to files that other programs read: a state dict for PyTorch, or plain safetensors. */
import { basename, dirname, join } from 'node:path';
import { type Module, writeFileAtomic, writeSafetensors } from '@patch-diffusion/torch';
import { withoutSecrets } from '../common/secrets.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { writeStateDict } from '../formats/torch-file/write.js';
import { chooseSnapshot } from '../run/choose-snapshot.js';
import { type LoadOptions, loadAnySnapshot } from './load-snapshot.js';
import { configFileOf, officialFromPrecond } from './official-config.js';

type ExportFormat = 'torch' | 'safetensors';

export interface ExportOptions extends LoadOptions {
  /** Run folder; its newest snapshot is exported. Either this or `network`. */
  readonly run?: string | null;
  /** Snapshot: a file, an official .pkl, an address, or `hf:owner/repo/path`. */
  readonly network?: string | null;
  readonly format: ExportFormat;
  /** File to write; default: beside a local snapshot, else in the current folder. */
  readonly out?: string | null;
}

export interface ExportResult {
  /** Files that were written: the weights, and for PyTorch the network's arguments as JSON. */
  readonly files: readonly string[];
  readonly tensors: number;
}

/**
 * Exports the averaged weights of a snapshot under their official names (`model.enc.64x64_conv.weight`, …).
 *
 * `torch`: a dictionary for `torch.load(file, weights_only=True)`, and the network's constructor arguments in a JSON
 * file beside it. `safetensors`: the same tensors, arguments in the metadata under `config`.
 *
 * @throws UserError when the snapshot is missing or unreadable
 * @example
 * ```ts
 * const { files } = await exportSnapshot({ run: 'runs/00000-photos', format: 'torch', out: 'photos.pt' });
 * ```
 */
export async function exportSnapshot(options: ExportOptions): Promise<ExportResult> {
  const network = await chooseSnapshot({ run: options.run ?? null, network: options.network ?? null });
  const { denoiser } = await loadAnySnapshot(network, options);
  try {
    const out = options.out ?? defaultOut(network, options.format);
    return await writeExport(out, denoiser, denoiser.spec, options.format);
  } finally {
    denoiser.dispose();
  }
}

/** Writes the tensors of `module` in one of the formats. */
export async function writeExport(
  out: string,
  module: Module,
  spec: PrecondSpec,
  format: ExportFormat,
): Promise<ExportResult> {
  const tensors = module.stateDict();
  const config = officialFromPrecond(spec);
  if (format === 'safetensors') {
    await writeSafetensors(out, tensors, { format: 'pt', config: JSON.stringify(config) });
    return { files: [out], tensors: tensors.size };
  }
  const json = configFileOf(out);
  await writeStateDict(out, tensors);
  await writeFileAtomic(json, `${JSON.stringify(config, null, 2)}\n`);
  return { files: [out, json], tensors: tensors.size };
}

function defaultOut(network: string, format: ExportFormat): string {
  const isLocal = !/^(https?|hf):/.test(network);
  const stem = basename(withoutSecrets(network))
    .replace(/@[^@]*$/, '')
    .replace(/\.[^.]*$/, '');
  const file = format === 'torch' ? `${stem}.pt` : `${stem}-weights.safetensors`;
  return isLocal ? join(dirname(network), file) : file;
}
