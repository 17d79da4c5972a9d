/**
 * Where the time of a run goes, in Chrome's trace format (open it in chrome://tracing or ui.perfetto.dev): one span for
 * each forward, backward, wait and so on, in microseconds.
 */
import { writeFileAtomic } from '@patch-diffusion/torch/atomic-file';

interface Span {
  readonly name: string;
  readonly startUs: number;
  readonly durationUs: number;
}

/** Spans that are kept, the latest ones: about 20 MB of file. */
const MAX_SPANS = 200_000;

export class Trace {
  #spans: Span[] = [];

  /** @param rank shown as the process */
  constructor(readonly rank = 0) {}

  /** Begins a span; the function that is returned ends it. */
  begin(name: string): () => void {
    const startUs = performance.now() * 1000;
    return () => {
      this.#spans.push({ name, startUs, durationUs: performance.now() * 1000 - startUs });
      if (this.#spans.length > MAX_SPANS * 2) this.#spans = this.#spans.slice(-MAX_SPANS);
    };
  }

  /** Seconds in spans of a name. */
  secondsOf(name: string): number {
    return this.#spans.reduce((sum, span) => sum + (span.name === name ? span.durationUs : 0), 0) / 1e6;
  }

  async write(file: string): Promise<void> {
    const { rank } = this;
    const origin = performance.timeOrigin * 1000;
    const traceEvents = this.#spans.slice(-MAX_SPANS).map(({ name, startUs, durationUs }) => {
      // Clock time, so that the files of several ranks can be laid side by side.
      return {
        name,
        ph: 'X',
        ts: Math.round(origin + startUs),
        dur: Math.round(durationUs),
        pid: rank,
        tid: 0,
      };
    });
    const process = { name: 'process_name', ph: 'M', pid: rank, args: { name: `rank ${rank}` } };
    await writeFileAtomic(file, JSON.stringify({ traceEvents: [process, ...traceEvents] }));
  }
}

/** Does `work` in a span, where there is a trace. */
export function traced<T>(trace: Trace | null | undefined, name: string, work: () => T): T {
  if (!trace) return work();
  const end = trace.begin(name);
  const result = work();
  if (result instanceof Promise) void result.then(end, end);
  else end();
  return result;
}
