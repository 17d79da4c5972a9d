/** What an evaluation tells while it runs. */
import type { Ranks } from '../distributed/ranks.js';

export type EvaluationEvent =
  | {
      readonly type: 'progress';
      /** Name of the run, snapshot or folder. */
      readonly subject: string;
      /** Such as `drawing samples`. */
      readonly what: string;
      readonly done: number;
      readonly total: number;
    }
  /** A file is being fetched; `totalBytes` is null where the host does not say. */
  | { readonly type: 'fetch'; readonly doneBytes: number; readonly totalBytes: number | null }
  | { readonly type: 'warning'; readonly message: string };

export interface EvaluationContext {
  /** Stops the evaluation; what is done is kept, and the same call continues from it. */
  readonly signal?: AbortSignal | undefined;
  /** Processes that draw the samples together; all make the same call, and the first one measures. */
  readonly ranks?: Ranks | null;
  readonly onEvent?: ((event: EvaluationEvent) => void) | undefined;
}
