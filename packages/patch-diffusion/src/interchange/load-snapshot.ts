/** Loads a network from wherever it is: our snapshots, official pickles, exported weights; on disk or on the net. */
import { open, readFile } from 'node:fs/promises';
import type { Device } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { createDenoiser, type Denoiser, type PrecondSpec } from '../diffusion/preconditioning.js';
import { type FetchOptions, fetchToCache } from '../formats/hub/download.js';
import { isRemote, parseLocator } from '../formats/hub/locator.js';
import { METADATA_KEY, openTensorFile } from '../formats/tensor-file.js';
import { configFileOf } from './export-names.js';
import { nimgOf, snapshotInfo } from './import.js';
import { loadOfficial, type StateDictFile, withCheckpoint } from './official-checkpoint.js';
import { precondFromJson } from './official-config.js';
import { checkPrecondSpec, checkSpecAgainstTensors } from './precond-schema.js';
import { loadSnapshot, type SnapshotInfo } from './snapshot.js';

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
 */
export async function loadAnySnapshot(from: string, options: LoadOptions = {}): Promise<LoadedSnapshot> {
  const file = isRemote(from) ? (await fetchToCache(parseLocator(from), options)).file : from;
  // What the file is called counts as its origin says it, not as the cache does.
  const name = isRemote(from) ? from : file;
  const device = options.device ?? 'cpu';
  const loaded = (await isPickleOrZip(file))
    ? await loadForeign(file, name, device)
    : await loadTensors(file, device);
  return { ...loaded, file };
}

async function loadForeign(
  file: string,
  name: string,
  device: Device,
): Promise<Omit<LoadedSnapshot, 'file'>> {
  return withCheckpoint(file, async (checkpoint) => {
    if (checkpoint.kind === 'training-state') {
      throw new UserError(
        'NOT_A_SNAPSHOT',
        `${name} is a training state; name the network-snapshot-*.pkl beside it, or go on training with --resume ${name}`,
      );
    }
    if (checkpoint.kind === 'state-dict') return loadStateDict(checkpoint, file, device);
    const denoiser = loadOfficial(checkpoint.ema, name, device);
    denoiser.requiresGrad(false).eval();
    const info = {
      kind: 'snapshot',
      formatVersion: 1,
      precond: denoiser.spec,
      ...snapshotInfo(checkpoint, name),
    } as const;
    return { denoiser, info };
  });
}

/** An exported state dict: its arguments are in the JSON file beside it. */
async function loadStateDict(
  { tensors }: StateDictFile,
  file: string,
  device: Device,
): Promise<Omit<LoadedSnapshot, 'file'>> {
  const json = configFileOf(file);
  const text = await readFile(json, 'utf8').catch(() => null);
  if (text === null) {
    throw new UserError(
      'NOT_A_SNAPSHOT',
      `${file} holds weights without saying of what network; put its ${json} beside it, or name a snapshot`,
    );
  }
  const spec = checkPrecondSpec(precondFromText(text, json), json);
  checkSpecAgainstTensors(spec, new Map(tensors.map(({ name, tensor }) => [name, tensor.shape])), file);
  const denoiser = loadOfficial({ spec, tensors }, file, device);
  denoiser.requiresGrad(false).eval();
  return { denoiser, info: bareInfo(spec, file) };
}

/** Ours, or plain weights with the arguments in the metadata, as `export` writes them. */
async function loadTensors(file: string, device: Device): Promise<Omit<LoadedSnapshot, 'file'>> {
  const reader = await openTensorFile(file);
  try {
    const { metadata } = reader;
    if (metadata[METADATA_KEY] !== undefined || metadata.config === undefined)
      return await loadSnapshot(file, device);
    const spec = checkPrecondSpec(precondFromText(metadata.config, file), file);
    checkSpecAgainstTensors(spec, new Map(reader.names.map((name) => [name, reader.info(name).shape])), file);
    const denoiser = createDenoiser(spec);
    try {
      torch.scope(() =>
        denoiser.loadStateDict(new Map(reader.names.map((name) => [name, reader.tensor(name)]))),
      );
    } catch (cause) {
      denoiser.dispose();
      throw new UserError('SNAPSHOT_MISMATCH', `${file}: ${(cause as Error).message}`, { cause });
    }
    denoiser.requiresGrad(false).eval();
    return { denoiser: denoiser.to({ device }), info: bareInfo(spec, file) };
  } finally {
    await reader.close();
  }
}

function precondFromText(text: string, file: string): PrecondSpec {
  try {
    return precondFromJson(JSON.parse(text) as Record<string, unknown>);
  } catch (cause) {
    throw new UserError(
      'BAD_CHECKPOINT',
      `${file}: its network description cannot be used (${(cause as Error).message})`,
      { cause },
    );
  }
}

function bareInfo(precond: PrecondSpec, file: string): SnapshotInfo {
  const dataset = { name: 'unknown', classNames: null };
  return {
    kind: 'snapshot',
    formatVersion: 1,
    precond,
    loss: { type: 'edm' },
    train: null,
    dataset,
    nimg: nimgOf(file),
    step: 0,
  };
}

async function isPickleOrZip(file: string): Promise<boolean> {
  const handle = await open(file).catch(() => null);
  // A missing file is told by the reader.
  if (handle === null) return false;
  try {
    const head = Buffer.alloc(9);
    const { bytesRead } = await handle.read(head, 0, head.length, 0).catch(() => ({ bytesRead: 0 }));
    // A safetensors header's length may begin like a pickle; its upper half is zero, and JSON follows.
    if (bytesRead < head.length || (head.readUInt32LE(4) === 0 && head[8] === 0x7b)) return false;
    return head[0] === 0x80 ? head[1]! <= 5 : head.toString('latin1', 0, 2) === 'PK';
  } finally {
    await handle.close();
  }
}
