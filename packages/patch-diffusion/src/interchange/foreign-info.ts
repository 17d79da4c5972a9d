/** What is known of networks that other programs trained, in the terms of our snapshots. */
import { basename } from 'node:path';
import { datasetName } from '../data/names.js';
import type { PrecondSpec } from '../diffusion/precond-spec.js';
import { nimgInName } from '../run/file-names.js';
import { SNAPSHOT_VERSION, type SnapshotInfo } from '../run/snapshot-info.js';
import type { OfficialSnapshot } from './official-checkpoint.js';

/** @param file its name tells the progress; training options and updates are not recorded anywhere */
export function foreignInfo(
  precond: PrecondSpec,
  file: string,
  { loss, dataset }: Pick<OfficialSnapshot, 'loss' | 'dataset'> = { loss: { type: 'edm' }, dataset: {} },
): SnapshotInfo {
  const name = typeof dataset.path === 'string' ? datasetName(dataset.path) : 'unknown';
  return {
    kind: 'snapshot',
    formatVersion: SNAPSHOT_VERSION,
    precond,
    loss,
    train: null,
    dataset: { name, classNames: null },
    nimg: nimgOf(file),
    step: 0,
  };
}

/** `network-snapshot-012345.pkl` → 12 345 000, as the official `--resume` counts. */
export function nimgOf(file: string): number {
  return /-(\d{4,9}|\d{6,}-\d{3})\.[a-z]+$/.test(basename(file)) ? nimgInName(file) : 0;
}
