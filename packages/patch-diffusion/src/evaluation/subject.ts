/** What is evaluated: a network from a run or a file, or images from anywhere. */
import { stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import type * as torch from '@patch-diffusion/torch';
import { UserError } from '../common/errors.js';
import { withoutSecrets } from '../common/secrets.js';
import type { EvaluateOptions } from '../config/evaluate-options.js';
import { datasetName } from '../data/names.js';
import { checkPrecision, prepareDenoiser, resolveDevice } from '../diffusion/device.js';
import type { Denoiser } from '../diffusion/preconditioning.js';
import { ownDevice } from '../distributed/machine.js';
import { isRemote } from '../formats/hub/locator.js';
import { loadAnySnapshot } from '../interchange/load-snapshot.js';
import { snapshotFor } from '../interchange/stored-averages.js';
import { LatentDecoder } from '../latents/latents.js';
import { readyMadeNetwork } from '../run/ready-made.js';
import { readRunJson } from '../run/runs.js';
import type { SnapshotInfo } from '../run/snapshot-info.js';
import type { EvaluationContext } from './events.js';

/** One column of the table. */
export interface Subject {
  readonly name: string;
  readonly kind: 'run' | 'network' | 'images';
  /** Run folder, snapshot or address, or folder of images. */
  readonly path: string;
}

/** @throws UserError for a path that is none of the three */
export async function subjectsOf(options: EvaluateOptions): Promise<Subject[]> {
  const { run, network, images, compare } = options;
  const named: Subject[] = [];
  if (run !== null) named.push({ name: nameOf(run), kind: 'run', path: run });
  if (network !== null) named.push({ name: nameOf(network), kind: 'network', path: network });
  if (images !== null) named.push({ name: nameOf(images), kind: 'images', path: images });
  for (const path of compare) named.push({ name: nameOf(path), kind: await kindOf(path), path });
  // Two runs of one name in different folders are told apart by their paths.
  return named.map((subject) => {
    const isUnique = named.filter(({ name }) => name === subject.name).length === 1;
    return isUnique ? subject : { ...subject, name: withoutSecrets(subject.path) };
  });
}

async function kindOf(path: string): Promise<Subject['kind']> {
  if (isRemote(path) || readyMadeNetwork(path) !== null) return 'network';
  const info = await stat(path).catch(() => null);
  if (info === null) throw new UserError('NOTHING_TO_EVALUATE', `${path} does not exist; check the path`);
  if (info.isDirectory()) return (await readRunJson(path)) === null ? 'images' : 'run';
  return /\.(safetensors|pkl|pt|pth)$/i.test(path) ? 'network' : 'images';
}

const nameOf = (path: string) =>
  isRemote(path) ? basename(withoutSecrets(path)) : datasetName(resolve(path));

/** A network that is ready to be asked. */
export interface Model {
  readonly denoiser: Denoiser;
  readonly info: SnapshotInfo;
  /** The local file. */
  readonly file: string;
  readonly decoder: LatentDecoder | null;
  readonly device: torch.Device;
}

/** Loads the network of a subject; the caller disposes it. */
export async function openModel(
  { kind, path }: Subject,
  options: EvaluateOptions,
  { signal, onEvent, ranks = null }: EvaluationContext,
): Promise<Model> {
  const { ema, snapshot } = options;
  const from = await snapshotFor(
    kind === 'run' ? { run: path, network: null, ema, snapshot } : { run: null, network: path, ema },
  );
  const device = ownDevice(resolveDevice(options.device), ranks);
  checkPrecision(options.precision, device);
  const { denoiser, info, file } = await loadAnySnapshot(from, {
    device,
    signal,
    onProgress: (doneBytes, totalBytes) => onEvent?.({ type: 'fetch', doneBytes, totalBytes }),
    onNote: (message) => onEvent?.({ type: 'warning', message }),
  });
  try {
    prepareDenoiser(denoiser, device, options.precision);
    const folder = options.autoencoder ?? info.train?.autoencoder ?? null;
    const decoder =
      info.latents && (await LatentDecoder.open(info.latents, folder, denoiser.dataChannels, device));
    return { denoiser, info, file, decoder: decoder ?? null, device };
  } catch (error) {
    denoiser.dispose();
    throw error;
  }
}

export function disposeModel({ denoiser, decoder }: Model): void {
  denoiser.dispose();
  decoder?.dispose();
}
