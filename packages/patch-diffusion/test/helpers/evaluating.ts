/** Evaluations within the test's own process, with options that hold for all of a file. */
import { expect } from 'vitest';
import { UserError } from '../../src/common/errors.js';
import { resolveEvaluateOptions } from '../../src/config/evaluate-options.js';
import { evaluateAll } from '../../src/evaluation/evaluate.js';

type Given = Parameters<typeof resolveEvaluateOptions>[0]['call'];

export function evaluating(common: Given) {
  const evaluate = (given: Given, context: Parameters<typeof evaluateAll>[1] = {}) =>
    evaluateAll(resolveEvaluateOptions({ call: { ...common, ...given } }), context);
  /** The error of an evaluation that is refused. */
  const refusal = async (given: Given): Promise<UserError> => {
    const error = await evaluate(given).then(
      () => null,
      (e: unknown) => e,
    );
    expect(error).toBeInstanceOf(UserError);
    return error as UserError;
  };
  return { evaluate, refusal };
}
