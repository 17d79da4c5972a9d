/**
 * Graphs: work that a GPU is given once and then repeats at one call (CUDA graphs). An update of a small network is
 * hundreds of operators, and giving each of them to the GPU takes longer than computing it.
 */
import type { Device } from './dtype.js';
import { TorchError } from './errors.js';
import { type NativeGraphPool, native } from './native.js';

/** Whether work on a device can become a graph: CUDA, with a libtorch whose graphs the addon knows (2.13 and 2.14 are). */
export function hasGraphs(device: Device): boolean {
  return device !== 'cpu' && native().hasGraphs(device);
}

/** Captured work. */
export interface DeviceGraph {
  /** Does the work again, with what is in its tensors now. Does not wait for the device. */
  replay(): void;
}

/** Captures graphs on a device. They share the memory of what is temporary, so they run one after the other. */
export class GraphPool {
  readonly #native: NativeGraphPool;

  /** @throws TorchError where {@link hasGraphs} says no */
  constructor(device: Device) {
    if (!hasGraphs(device)) throw new TorchError('ERR_TORCH_UNSUPPORTED', `${device} has no graphs`);
    this.#native = native().createGraphPool(device);
  }

  /**
   * Makes a graph of the work of a function, without doing it. The work has to be the same each time: it reads and writes
   * tensors that were there before, waits for nothing, and brings no values from the host. It should have been done once
   * before, since some kernels prepare themselves at first use.
   *
   * @param work synchronous
   * @throws TorchError where the work cannot be captured; nothing has happened then
   */
  capture(work: () => void): DeviceGraph {
    native().beginCapture(this.#native);
    try {
      work();
    } catch (error) {
      native().endCapture(this.#native, false);
      throw error;
    }
    const number = native().endCapture(this.#native, true);
    return { replay: () => native().replayGraph(this.#native, number) };
  }
}
