/** `--transfer`: a run that starts from the weights of another network, ours or an official one, near or far. */
import { stat } from 'node:fs/promises';
import { UserError } from '../common/errors.js';
import { loadAnySnapshot } from '../interchange/load-snapshot.js';
import { transferDetails, transferSummary, transferTensors } from '../interchange/transfer.js';
import { chooseSnapshot } from '../run/choose-snapshot.js';
import { copyWeights } from './ema.js';
import type { TrainEventListener } from './events.js';
import type { TrainingState } from './step.js';

/**
 * Copies what fits by name into network and average, and reports it.
 * @param from snapshot (file or address), or the folder of a run, whose newest one is taken
 * @throws UserError when nothing fits
 */
export async function transferWeights(
  from: string,
  state: TrainingState,
  emit: TrainEventListener,
  signal?: AbortSignal,
): Promise<void> {
  const isFolder = (await stat(from).catch(() => null))?.isDirectory() ?? false;
  const snapshot = isFolder ? await chooseSnapshot({ run: from, network: null }) : from;
  const source = await loadAnySnapshot(snapshot, {
    ...(signal ? { signal } : {}),
    onProgress: (doneBytes, totalBytes) => emit({ type: 'fetch', from, doneBytes, totalBytes }),
    onNote: (message) => emit({ type: 'warning', code: 'CACHED_COPY', message }),
  });
  try {
    const report = transferTensors(state.denoiser, source.denoiser.stateDict());
    if (!report.matched.length && !report.widened.length) {
      throw new UserError(
        'NOTHING_TRANSFERRED',
        `no tensor of ${from} fits this network; check --arch, --model-channels and --channel-mult`,
      );
    }
    copyWeights(state.ema, state.denoiser);
    emit({ type: 'transfer', message: transferSummary(report, from), details: transferDetails(report) });
  } finally {
    source.denoiser.dispose();
  }
}
