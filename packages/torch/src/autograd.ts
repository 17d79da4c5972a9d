/**
 * Gradient recording, switched per thread: `noGrad` and `inferenceMode` around a function.
 */
import { TorchError } from './errors.js';
import { native } from './native.js';

/** Whether operations are being recorded for `backward`. */
export function isGradEnabled(): boolean {
  return native().isGradEnabled();
}

/**
 * Switches recording on or off for this thread.
 *
 * @returns The previous setting.
 */
export function setGradEnabled(on: boolean): boolean {
  return native().setGradEnabled(on);
}

/** Runs `fn` without recording operations for `backward`. `fn` must be synchronous. */
export function noGrad<T>(fn: () => T): T {
  return withGrad('noGrad', false, fn);
}

/** Runs `fn` with recording on, inside a {@link noGrad}. `fn` must be synchronous. */
export function enableGrad<T>(fn: () => T): T {
  return withGrad('enableGrad', true, fn);
}

function withGrad<T>(name: string, on: boolean, fn: () => T): T {
  const addon = native();
  const before = addon.setGradEnabled(on);
  try {
    return synchronous(name, fn());
  } finally {
    addon.setGradEnabled(before);
  }
}

/**
 * Runs `fn` in inference mode: like {@link noGrad} and a little cheaper, but its tensors can never take part
 * in recorded operations. `fn` must be synchronous.
 */
export function inferenceMode<T>(fn: () => T): T {
  const addon = native();
  addon.pushInference();
  try {
    return synchronous('inferenceMode', fn());
  } finally {
    addon.popInference();
  }
}

/** Modes and scopes end when `fn` returns; a promise would continue outside of them, so it is an error. */
export function synchronous<T>(name: string, result: T): T {
  if (
    result !== null &&
    typeof result === 'object' &&
    typeof (result as { then?: unknown }).then === 'function'
  ) {
    // Only the error below matters: the promise's own rejection must not end the process.
    Promise.resolve(result).catch(() => {});
    throw new TorchError(
      'ERR_TORCH_SCOPE',
      `${name}: the function returned a promise, but it must be synchronous; await outside, and keep() tensors that live across an await`,
    );
  }
  return result;
}
