/** Which snapshot `--run` and `--network` mean. */
import { stat } from 'node:fs/promises';
import { UserError, usageError } from '../common/errors.js';
import { newestSnapshot } from './runs.js';

/**
 * The newest snapshot of a run, or the file or address that was named.
 *
 * @throws UserError when the run has none, or one kind was given in place of the other
 */
export async function chooseSnapshot(given: {
  readonly run: string | null;
  readonly network: string | null;
}): Promise<string> {
  const { run, network } = given;
  const usage = (message: string) => usageError('NO_NETWORK', message);
  if (network !== null) {
    if ((await stat(network).catch(() => null))?.isDirectory())
      throw usage(`--network ${network} is a folder; for the newest snapshot of a run use --run ${network}`);
    return network;
  }
  if (run === null) throw usage('say which network: --run RUN_FOLDER, or --network SNAPSHOT.safetensors');
  const info = await stat(run).catch(() => null);
  if (info === null) throw new UserError('NO_SNAPSHOT', `--run ${run} does not exist; check the path`);
  if (!info.isDirectory()) throw usage(`--run ${run} is a file; use --network ${run}`);
  const newest = await newestSnapshot(run);
  if (newest !== null) return newest;
  throw new UserError(
    'NO_SNAPSHOT',
    `${run} has no snapshot yet; check the path, or wait until the run has written one`,
  );
}

/** The newest snapshot where `from` is the folder of a run; any other file or address as it is. */
export async function snapshotAt(from: string): Promise<string> {
  const isFolder = (await stat(from).catch(() => null))?.isDirectory() ?? false;
  return isFolder ? chooseSnapshot({ run: from, network: null }) : from;
}
