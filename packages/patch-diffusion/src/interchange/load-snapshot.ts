/** Loads a network from wherever it is: our snapshots, official pickles, exported weights; on disk or on the net. */
import { open, readFile } from 'node:fs/promises';
import type { Device } from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { METADATA_KEY } from '../formats/file-description.js';
import { type FetchOptions, fetchToCache } from '../formats/hub/download.js';
import { isRemote, parseLocator } from '../formats/hub/locator.js';
import { openTensorFile } from '../formats/tensor-file.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import { foreignInfo } from './foreign-info.js';
import { withCheckpoint } from './official-checkpoint.js';
import { configFileOf, precondFromText } from './official-config.js';
import { loadSnapshot } from './snapshot.js';
import { buildDenoiser, weightsOf, weightsOfTensors } from './weights.js';

export interface LoadOptions extends FetchOptions {
  /** Where the weights go. Default 'cpu'. */
  readonly device?: Device;
}

/** A network ready for sampling, and what is known of it. */
export interface LoadedSnapshot {
  readonly denoiser: Denoiser;
  readonly info: SnapshotInfo;
  /** The local file: of a download, the one in the cache. */
  readonly file: string;
}

/**
 * Loads a snapshot for sampling: in evaluation mode, without gradients. The caller disposes the denoiser.
 *
 * @param from a snapshot (`.safetensors`), an official `network-snapshot-*.pkl`, an exported state dict (`.pt` with its
 *   `.json`), an `http(s)://` address of one, or `hf:owner/repo/path[@revision]` on the Hugging Face Hub
 * @throws UserError when it cannot be fetched, is damaged, unsafe, or something else
 * @example
 * ```ts
 * const { files } = await exportSnapshot({ run: 'runs/00000-photos', format: 'torch', out: 'exported.pt' });
 * const { denoiser, info } = await loadAnySnapshot('exported.pt');
 * console.log(info.precond.type, denoiser.imageExtent);
 * denoiser.dispose();
 * ```
 */
export async function loadAnySnapshot(from: string, options: LoadOptions = {}): Promise<LoadedSnapshot> {
  const file = isRemote(from) ? (await fetchToCache(parseLocator(from), options)).file : from;
  const load = (await isPickleOrZip(file)) ? loadCheckpoint : loadTensors;
  return { ...(await load(file, options.device)), file };
}

type Loaded = Omit<LoadedSnapshot, 'file'>;

/** Official files, and state dicts, whose arguments are in the JSON file beside them. */
async function loadCheckpoint(file: string, device?: Device): Promise<Loaded> {
  return withCheckpoint(file, async (checkpoint) => {
    switch (checkpoint.kind) {
      case 'snapshot': {
        const { spec, tensors } = checkpoint.ema;
        const denoiser = buildDenoiser(spec, weightsOfTensors(tensors), file, device);
        return { denoiser, info: foreignInfo(spec, file, checkpoint) };
      }
      case 'state-dict': {
        const json = configFileOf(file);
        const text = await readFile(json, 'utf8').catch(() => null);
        if (text === null) {
          throw new UserError(
            'NOT_A_SNAPSHOT',
            `${file} holds weights without saying of what network; put its ${json} beside it, or name a snapshot`,
          );
        }
        const spec = precondFromText(text, json);
        const denoiser = buildDenoiser(spec, weightsOfTensors(checkpoint.tensors), file, device);
        return { denoiser, info: foreignInfo(spec, file) };
      }
      default:
        throw new UserError(
          'NOT_A_SNAPSHOT',
          `${file} is a training state; name the network-snapshot-*.pkl beside it, or go on training with --resume ${file}`,
        );
    }
  });
}

/** Ours, or plain weights with the arguments in the metadata, as `export` writes them. */
async function loadTensors(file: string, device?: Device): Promise<Loaded> {
  const reader = await openTensorFile(file);
  try {
    const { metadata } = reader;
    if (metadata[METADATA_KEY] !== undefined || metadata.config === undefined)
      return await loadSnapshot(file, device);
    const spec = precondFromText(metadata.config, file);
    return { denoiser: buildDenoiser(spec, weightsOf(reader), file, device), info: foreignInfo(spec, file) };
  } finally {
    await reader.close();
  }
}

/** Does a file begin as a pickle or a zip archive? */
export async function isPickleOrZip(file: string): Promise<boolean> {
  const handle = await open(file).catch(() => null);
  // A missing file is told by the reader.
  if (handle === null) return false;
  try {
    const head = Buffer.alloc(9);
    const { bytesRead } = await handle.read(head, 0, head.length, 0).catch(() => ({ bytesRead: 0 }));
    // A safetensors header's length may begin like a pickle; its upper half is zero, and JSON follows.
    if (bytesRead < head.length || (head.readUInt32LE(4) === 0 && head[8] === 0x7b)) return false;
    return head[0] === 0x80 ? head[1] <= 5 : head.toString('latin1', 0, 2) === 'PK';
  } finally {
    await handle.close();
  }
}
