/** Reading what training has written: runs, statistics, snapshots' descriptions. Needs no libtorch. */

export { UserError } from './common/errors.js';
export { type EvaluationLine, type MeasuredFigure, readEvaluations } from './run/evaluations.js';
export {
  listRuns,
  listSheets,
  listSnapshots,
  listStates,
  newestSnapshot,
  newestState,
  type RunInfo,
  type RunJson,
  type RunStatus,
  readRunJson,
} from './run/runs.js';
export { readSnapshotInfo, type SnapshotInfo } from './run/snapshot-info.js';
export { readStats, type Stat, type StatsLine } from './run/stats.js';
