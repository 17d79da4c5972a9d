/** Which snapshot `--run` and `--network` mean. */
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { UserError, usageError } from '../common/errors.js';
import type { SnapshotChoice } from '../config/snapshot-choice.js';
import { isRemote } from '../formats/hub/locator.js';
import { bestSnapshot } from './evaluations.js';
import { nimgInName } from './file-names.js';
import { READY_MADE, readyMadeNetwork } from './ready-made.js';
import { listSnapshots, newestSnapshot } from './runs.js';

/**
 * Autoguidance (Karras et al. 2024, section 4) guides by a network that has trained for a small part of the time, such as this
 * part.
 */
export const GUIDE_SHARE = 1 / 8;

/**
 * The newest or the best snapshot of a run, or the file, address or ready-made network that was named.
 *
 * @throws UserError when the run has none, or one kind was given in place of the other
 */
export async function chooseSnapshot(given: {
  readonly run: string | null;
  readonly network: string | null;
  readonly snapshot?: SnapshotChoice;
}): Promise<string> {
  const { run, network, snapshot = 'newest' } = given;
  const usage = (message: string) => usageError('NO_NETWORK', message);
  if (network !== null) {
    if (snapshot !== 'newest') throw usage(`--snapshot ${snapshot} belongs to --run; leave it out`);
    const readyMade = readyMadeNetwork(network);
    if (readyMade !== null) return readyMade;
    const found = await stat(network).catch(() => null);
    if (found?.isDirectory())
      throw usage(`--network ${network} is a folder; for the newest snapshot of a run use --run ${network}`);
    if (found === null && !isRemote(network) && !/[./\\]/.test(network)) {
      const names = READY_MADE.join(', ');
      throw usage(
        `--network ${network} is neither a file nor a network that comes along (${names}); check the name`,
      );
    }
    return network;
  }
  if (run === null) throw usage('say which network: --run RUN_FOLDER, or --network SNAPSHOT.safetensors');
  const info = await stat(run).catch(() => null);
  if (info === null) throw new UserError('NO_SNAPSHOT', `--run ${run} does not exist; check the path`);
  if (!info.isDirectory()) throw usage(`--run ${run} is a file; use --network ${run}`);
  const newest = await newestSnapshot(run);
  if (newest !== null) return snapshot === 'best' ? bestOf(run) : newest;
  throw new UserError(
    'NO_SNAPSHOT',
    `${run} has no snapshot yet; check the path, or wait until the run has written one`,
  );
}

async function bestOf(run: string): Promise<string> {
  const best = await bestSnapshot(run);
  if (best !== null) return best.file;
  throw new UserError(
    'NO_BEST_SNAPSHOT',
    `--snapshot best: no snapshot of ${run} has a held-out loss; measure some with evaluate and --data, or train with --holdout`,
  );
}

/**
 * The newest snapshot where `from` is the folder of a run, and the file of a ready-made network; any other file or address
 * as it is.
 */
export async function snapshotAt(from: string): Promise<string> {
  const readyMade = readyMadeNetwork(from);
  if (readyMade !== null) return readyMade;
  const isFolder = (await stat(from).catch(() => null))?.isDirectory() ?? false;
  return isFolder ? chooseSnapshot({ run: from, network: null }) : from;
}

/**
 * The snapshot of a run to guide another of its snapshots by: of the earlier ones that whose images are nearest, as a
 * ratio, to an eighth of the other's.
 * @param network the snapshot that is guided, or an average of its run
 * @throws UserError when the run has no earlier one
 */
export async function earlySnapshot(run: string, network: string): Promise<string> {
  const nimg = nimgInName(network);
  const distance = (file: string) => Math.abs(Math.log(nimgInName(file) / (nimg * GUIDE_SHARE)));
  const earlier = (await listSnapshots(run)).filter((file) => {
    const images = nimgInName(file);
    return images > 0 && images < nimg;
  });
  if (earlier.length) return earlier.reduce((best, file) => (distance(file) < distance(best) ? file : best));
  throw new UserError(
    'NO_EARLY_SNAPSHOT',
    `--guide auto: ${run} has no snapshot from before ${basename(network)}; name another run's with --guide, or train with more snapshots (--snapshot-ticks)`,
  );
}
