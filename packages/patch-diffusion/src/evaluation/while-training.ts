/** The evaluator that a training run is given: it judges the run's own network on the run's own images. */
import { resolveEvaluateOptions } from '../config/evaluate-options.js';
import type { TrainOptions } from '../config/train-options.js';
import type { Evaluator } from '../training/evaluator.js';
import { evaluateOpen } from './evaluate.js';

/** @param options of the run */
export function evaluatorFor(options: TrainOptions): Evaluator {
  const { evalMetrics, evalFeatures, evalCount, evalImages, evalInceptionWeights, batchGpu, batch } = options;
  return async (candidate, { signal, onProgress }) => {
    const { runDir, training, heldOut, ...model } = candidate;
    const given = resolveEvaluateOptions({
      call: {
        ...{ run: runDir, count: evalCount, lossImages: evalImages, device: model.device },
        metrics: evalMetrics ?? (evalFeatures === null ? ['loss'] : ['loss', 'fd', 'kid']),
        ...{ features: evalFeatures, inceptionWeights: evalInceptionWeights },
        ...{ batch: Math.min(64, batchGpu ?? batch), autoencoder: options.autoencoder },
      },
    });
    const close = async () => {};
    const reals = { judged: heldOut ?? training, isHeldOut: heldOut !== null, training, close };
    const report = await evaluateOpen({ name: '', kind: 'run', path: runDir }, given, model, reals, {
      signal,
      onEvent: (event) => event.type === 'progress' && onProgress(event.what, event.done, event.total),
    });
    const figures = Object.entries(report.metrics).map(([name, { value, low, high, floor }]) => [
      name,
      { value, low, high, floor },
    ]);
    return { figures: Object.fromEntries(figures), warnings: report.warnings };
  };
}
