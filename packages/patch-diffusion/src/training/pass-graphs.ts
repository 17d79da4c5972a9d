/**
 * Forward and backward passes as graphs of a GPU, one for each patch size: given to it once, and repeated at one call. A
 * graph reads and writes the same memory each time, so inputs are copied into tensors of its own, and gradients stay where
 * they are from update to update.
 */
import type { DeviceGraph, Tensor } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

/** Passes with inputs of these shapes that come before the graph: kernels prepare themselves, and gradients get their place. */
const WARM_UP = 3;
/** Relative difference of losses and gradients between a graph and the pass that it was captured from. */
const TOLERANCE = 0.05;

interface Entry {
  uses: number;
  captured: { readonly graph: DeviceGraph; readonly inputs: Inputs; readonly sums: Tensor } | null;
}

type Inputs = Readonly<Record<string, Tensor | null>>;

export interface PassGraphsOptions {
  /** Makes the graphs. */
  readonly pool: Pick<torch.GraphPool, 'capture'>;
  /** Whose gradients the passes add to. */
  readonly parameters: readonly Tensor[];
  /** Whether two passes over the same inputs have the same gradient: without dropout. */
  readonly isRepeatable: boolean;
  /** Told once why passes are no graphs any more. */
  readonly onGiveUp: (reason: string) => void;
}

/**
 * Forward and backward passes of a training as graphs, for `StepOptions.graphs`.
 * @example
 * ```ts
 * const linear = new Linear(4, 2);
 * const graphs = torch.hasGraphs('cuda')
 *   ? new PassGraphs({
 *       pool: new torch.GraphPool('cuda'),
 *       parameters: linear.parameters(),
 *       isRepeatable: true,
 *       onGiveUp: (reason) => console.log(reason),
 *     })
 *   : null;
 * ```
 */
export class PassGraphs {
  readonly #options: PassGraphsOptions;
  readonly #entries = new Map<string, Entry>();
  #hasGivenUp = false;

  constructor(options: PassGraphsOptions) {
    this.#options = options;
  }

  /** Sets the gradients to zero, where they are. */
  zeroGradients(): void {
    torch.noGrad(() =>
      torch.scope(() => {
        const gradients = this.#gradients();
        if (gradients.length) torch._foreachZero_(gradients);
      }),
    );
  }

  /**
   * Does a pass: as it is at first, then as a graph.
   * @param learn forward and backward; what it does depends on the shapes of its inputs only
   * @returns its result
   */
  run<I extends { readonly [K in keyof I]: Tensor | null }>(inputs: I, learn: (inputs: I) => Tensor): Tensor {
    const given: Inputs = inputs;
    const key = Object.values(given)
      .map((t) => t?.shape.join('×') ?? '–')
      .join();
    const entry = this.#entries.get(key) ?? { uses: 0, captured: null };
    this.#entries.set(key, entry);
    if (entry.captured) {
      const { graph, inputs: own, sums } = entry.captured;
      copyInto(own, given);
      graph.replay();
      return sums.clone();
    }
    if (this.#hasGivenUp || entry.uses++ < WARM_UP) return learn(inputs);
    return this.#capture(entry, given, (from) => learn(from as I));
  }

  dispose(): void {
    for (const { captured } of this.#entries.values()) {
      for (const tensor of Object.values(captured?.inputs ?? {})) tensor?.dispose();
      captured?.sums.dispose();
    }
    this.#entries.clear();
  }

  /** Captures a pass; its gradient is added once, by the pass itself. */
  #capture(entry: Entry, given: Inputs, learn: (inputs: Inputs) => Tensor): Tensor {
    const before = this.#gradients().map((gradient) => gradient.clone());
    // Its autograd graph must be gone: what remained of it would bring the usual stream into the captured pass.
    const expected = torch.scope(() => learn(given));
    const after = this.#gradients().map((gradient) => gradient.clone());
    const own: Inputs = Object.fromEntries(
      Object.entries(given).map(([name, tensor]) => [name, tensor && torch.keep(tensor.detach().clone())]),
    );
    const sums = torch.keep(torch.zerosLike(expected));
    try {
      const graph = this.#options.pool.capture(() => torch.scope(() => void sums.copy_(learn(own))));
      this.#restore(before);
      graph.replay();
      const fault = this.#difference(expected, sums, { before, after });
      if (fault !== null) throw new Error(fault);
      entry.captured = { graph, inputs: own, sums };
    } catch (error) {
      this.#hasGivenUp = true;
      this.#restore(after);
      for (const tensor of [...Object.values(own), sums]) tensor?.dispose();
      this.#options.onGiveUp((error as Error).message);
    }
    return expected;
  }

  /** What a graph did otherwise than the pass, or null. */
  #difference(
    expected: Tensor,
    sums: Tensor,
    { before, after }: { readonly before: readonly Tensor[]; readonly after: readonly Tensor[] },
  ): string | null {
    const [wanted, got] = [expected.toFloat32Array()[0], sums.toFloat32Array()[0]];
    if (!(Math.abs(got - wanted) <= TOLERANCE * Math.abs(wanted)))
      return `its loss was ${got}, not ${wanted}`;
    if (!this.#options.isRepeatable) return null;
    const norm = (tensors: readonly Tensor[]) => Math.hypot(...tensors.map((t) => t.square().sum().item()));
    const added = norm(after.map((gradient, i) => gradient.sub(before[i])));
    const off = norm(this.#gradients().map((gradient, i) => gradient.sub(after[i])));
    return off <= TOLERANCE * added
      ? null
      : `its gradient differed by ${(off / added).toFixed(3)} of its norm`;
  }

  #restore(values: readonly Tensor[]): void {
    torch.noGrad(() => {
      for (const [i, gradient] of this.#gradients().entries()) gradient.copy_(values[i]);
    });
  }

  #gradients(): Tensor[] {
    return this.#options.parameters.flatMap(({ grad }) => (grad ? [grad] : []));
  }
}

function copyInto(own: Inputs, given: Inputs): void {
  for (const [name, tensor] of Object.entries(given)) if (tensor) own[name]!.copy_(tensor);
}
