/**
 * The time of a run: what it has taken over all of its sessions, when it ends under `--max-sec` and `--max-cpu-sec`, and
 * the share of that which is done. A resumed run that had time left goes on to the end that was planned; one with a new
 * limit, or whose time was up, plans anew: time so far plus limit. Schedules that move over the run follow the new plan.
 */

/** Where a time limit ends a run. */
export interface TimePlan {
  /** The option that it was made from. */
  readonly limitSec: number;
  /** Time of the run, all sessions together, at which it ends. */
  readonly endSec: number;
}

/** What a training state keeps of the time. */
export interface TimeCounters {
  /** Seconds of earlier sessions, sampling and saving included. */
  earlierSec: number;
  /** Processor seconds of the updates of earlier sessions. */
  earlierCpuSec: number;
  plan: TimePlan | null;
  cpuPlan: TimePlan | null;
}

/** Time limits of a session; null without. */
export interface TimeLimits {
  /** Seconds on the clock. */
  readonly maxSec: number | null;
  /** Processor seconds of training updates in this process; sampling and saving do not count. */
  readonly maxCpuSec: number | null;
}

/** The time of a run, for events. */
export interface TimeProgress {
  /** Seconds over all sessions of the run. */
  readonly totalSec: number;
  /** The value of `totalSec` at which the run ends; null without `maxSec`. */
  readonly plannedSec: number | null;
  /** Processor seconds of training updates over all sessions (of this process, where there are several). */
  readonly trainCpuSec: number;
  /** The value of `trainCpuSec` at which the run ends; null without `maxCpuSec`. */
  readonly plannedCpuSec: number | null;
}

export const newTimeCounters = (): TimeCounters => ({
  ...{ earlierSec: 0, earlierCpuSec: 0, plan: null, cpuPlan: null },
});

/**
 * The plan of a session.
 * @param before the plan of the session before, if any
 * @param doneSec time of the run so far
 */
export function planTime(limitSec: number | null, before: TimePlan | null, doneSec: number): TimePlan | null {
  if (limitSec === null) return null;
  if (before?.limitSec === limitSec && before.endSec > doneSec) return before;
  return { limitSec, endSec: doneSec + limitSec };
}

export class RunClock {
  /** Seconds of updates in this session. */
  trainSec = 0;
  readonly #start = performance.now();
  #cpuSec = 0;
  readonly #before: TimeCounters;
  readonly #plan: TimePlan | null;
  readonly #cpuPlan: TimePlan | null;

  constructor({ maxSec, maxCpuSec }: TimeLimits, before: TimeCounters) {
    this.#before = { ...before };
    this.#plan = planTime(maxSec, before.plan, before.earlierSec);
    this.#cpuPlan = planTime(maxCpuSec, before.cpuPlan, before.earlierCpuSec);
  }

  /** Seconds since this process began to train. */
  get sessionSec(): number {
    return (performance.now() - this.#start) / 1000;
  }

  get progress(): TimeProgress {
    return {
      totalSec: this.#before.earlierSec + this.sessionSec,
      plannedSec: this.#plan?.endSec ?? null,
      trainCpuSec: this.#before.earlierCpuSec + this.#cpuSec,
      plannedCpuSec: this.#cpuPlan?.endSec ?? null,
    };
  }

  /** What the next session begins with. */
  get counters(): TimeCounters {
    const { totalSec, trainCpuSec } = this.progress;
    const plans = { plan: this.#plan, cpuPlan: this.#cpuPlan };
    return { earlierSec: totalSec, earlierCpuSec: trainCpuSec, ...plans };
  }

  /** An update begins. @returns call it when the update has ended */
  beginUpdate(): () => void {
    const begin = performance.now();
    const cpuBegin = process.cpuUsage();
    return () => {
      this.trainSec += (performance.now() - begin) / 1000;
      const { user, system } = process.cpuUsage(cpuBegin);
      this.#cpuSec += (user + system) / 1e6;
    };
  }

  /** Share of the planned time that is done, 0 … 1: of the limit that is nearest; 0 without limits. */
  share(): number {
    const { totalSec, plannedSec, trainCpuSec, plannedCpuSec } = this.progress;
    const shares = [plannedSec && totalSec / plannedSec, plannedCpuSec && trainCpuSec / plannedCpuSec];
    return Math.min(Math.max(...shares.map((share) => share ?? 0)), 1);
  }

  /** {@link share} when this session began. */
  startShare(): number {
    const { earlierSec, earlierCpuSec } = this.#before;
    const [plan, cpuPlan] = [this.#plan?.endSec ?? Infinity, this.#cpuPlan?.endSec ?? Infinity];
    return Math.max(earlierSec / plan, earlierCpuSec / cpuPlan);
  }

  /** Seconds until a limit ends the run; infinite without. */
  leftSec(): number {
    const { totalSec, plannedSec, trainCpuSec, plannedCpuSec } = this.progress;
    const left = plannedSec === null ? Infinity : plannedSec - totalSec;
    const secPerCpuSec = this.sessionSec / Math.max(this.#cpuSec, 1e-9);
    const cpuLeft = plannedCpuSec === null ? Infinity : (plannedCpuSec - trainCpuSec) * secPerCpuSec;
    return Math.max(Math.min(left, cpuLeft), 0);
  }
}
