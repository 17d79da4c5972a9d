/** Snapshots to files that other programs read: a state dict for PyTorch, plain safetensors, or ONNX. */
import { basename, dirname, join } from 'node:path';
import { type Module, writeFileAtomic, writeSafetensors } from '@patch-diffusion/torch';
import { withoutSecrets } from '../common/secrets.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { writeStateDict } from '../formats/torch-file/write.js';
import { chooseSnapshot } from '../run/choose-snapshot.js';
import { readyMadeNetwork } from '../run/ready-made.js';
import { type LoadOptions, loadAnySnapshot } from './load-snapshot.js';
import { configFileOf, officialFromPrecond } from './official-config.js';
import { exportOnnx } from './onnx/export.js';
import type { OnnxOptions } from './onnx/options.js';

type WeightsFormat = 'torch' | 'safetensors';

export interface ExportOptions extends Omit<LoadOptions, 'device'>, OnnxOptions {
  /** Run folder; its newest snapshot is exported. Either this or `network`. */
  readonly run?: string | null;
  /** Snapshot: a file, an official .pkl, an address, or `hf:owner/repo/path`. */
  readonly network?: string | null;
  readonly format: WeightsFormat | 'onnx';
  /** File to write; default: beside a local snapshot, else in the current folder. */
  readonly out?: string | null;
}

export interface ExportResult {
  /** Files that were written: the weights, then for PyTorch the network's arguments as JSON, for ONNX the decoder. */
  readonly files: readonly string[];
  readonly tensors: number;
}

/**
 * Exports the averaged weights of a snapshot.
 *
 * `onnx`: the network with its preconditioning, ready to run: D(x; σ) in a file for ONNX runtimes, and for a network that
 * was trained on latents the decoder in a second one.
 *
 * The others are weights under their official names (`model.enc.64x64_conv.weight`, …). `torch`: a dictionary for `torch.load(file, weights_only=True)`, and the network's constructor arguments in a JSON
 * file beside it. `safetensors`: the same tensors, arguments in the metadata under `config`.
 *
 * @throws UserError when the snapshot is missing or unreadable, or cannot be written so
 * @example
 * ```ts
 * await exportSnapshot({ run: 'runs/00000-photos', format: 'onnx', precision: 'int8', out: 'photos.onnx' });
 * const { files } = await exportSnapshot({ run: 'runs/00000-photos', format: 'torch', out: 'photos.pt' });
 * ```
 */
export async function exportSnapshot(options: ExportOptions): Promise<ExportResult> {
  const network = await chooseSnapshot({ run: options.run ?? null, network: options.network ?? null });
  const { denoiser, info } = await loadAnySnapshot(network, options);
  try {
    const { format } = options;
    const out = options.out ?? defaultOut(options.network ?? network, format);
    if (format === 'onnx') return await exportOnnx(out, denoiser, info, options);
    return await writeExport(out, denoiser, denoiser.spec, format);
  } finally {
    denoiser.dispose();
  }
}

/** Writes the tensors of `module` as weights. */
export async function writeExport(
  out: string,
  module: Module,
  spec: PrecondSpec,
  format: WeightsFormat,
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

const ENDINGS = { torch: '.pt', safetensors: '-weights.safetensors', onnx: '.onnx' } as const;

function defaultOut(network: string, format: keyof typeof ENDINGS): string {
  const isLocal = !/^(https?|hf):/.test(network) && readyMadeNetwork(network) === null;
  const stem = basename(withoutSecrets(network))
    .replace(/@[^@]*$/, '')
    .replace(/\.[^.]*$/, '');
  const file = `${stem}${ENDINGS[format]}`;
  return isLocal ? join(dirname(network), file) : file;
}
