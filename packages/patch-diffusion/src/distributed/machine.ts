/** What of a machine is a rank's. */
import * as torch from '@patch-diffusion/torch';
import type { Ranks } from './ranks.js';

/** With several ranks on a machine, each takes a GPU of its own, in turns. */
export function ownDevice(device: torch.Device, ranks: Ranks | null): torch.Device {
  return ranks && device === 'cuda' ? `cuda:${ranks.place.localRank % torch.cudaDeviceCount()}` : device;
}

/** With several ranks on a machine, they share its cores unless told otherwise. */
export function setThreads(threads: number | null, ranks: Ranks | null): void {
  if (threads !== null) torch.setNumThreads(threads);
  else if (ranks && !process.env.OMP_NUM_THREADS)
    torch.setNumThreads(Math.max(1, Math.floor(torch.getNumThreads() / ranks.place.localWorldSize)));
}
