/** Addresses that are relative to the page or, in a worker of the user's own, to its script. */
import { ModelError } from './errors.js';

/** @throws ModelError where there is nothing that the address could be relative to */
export function absolute(address: string | URL): URL {
  const base = globalThis.document?.baseURI ?? globalThis.location.href;
  try {
    return new URL(address, base);
  } catch (cause) {
    const message = `${address} is relative, but this worker was not loaded from an address of its own (${base}); give the whole address`;
    throw new ModelError('BAD_OPTION', message, { cause });
  }
}
