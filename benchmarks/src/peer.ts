/** The peer: the same network and training step in PyTorch (peer/pytorch.py), whose steps alternate with ours. */
import { PythonProcess } from './python-process.js';
import type { StepSeconds } from './timing.js';

/** How PyTorch runs. */
export interface PeerSettings {
  readonly channels_last: boolean;
  /** bfloat16 autocast around the network's body. */
  readonly bf16: boolean;
  /** Fused Adam, and list operators for the average. */
  readonly fused: boolean;
  /** `torch.compile(dynamic=False)`. */
  readonly compile: boolean;
}

/** Eager float32, contiguous, tensor by tensor. */
export const OFFICIAL_SETTINGS: PeerSettings = {
  channels_last: false,
  bf16: false,
  fused: false,
  compile: false,
};

/** First line of the conversation, but for the settings. */
export interface PeerNetwork {
  readonly config: Readonly<Record<string, unknown>>;
  /** safetensors file of our network's weights. */
  readonly weights: string;
  readonly threads: number;
  readonly device: string;
}

/** Seconds, one entry per repeat. */
interface PeerTimes {
  readonly wall: readonly number[];
  readonly cpu: readonly number[];
}

export function settingsText({ channels_last, bf16, fused, compile }: PeerSettings): string {
  return [
    ...['PyTorch', compile ? 'compiled' : 'eager', bf16 ? 'bf16 autocast' : 'fp32'],
    ...[channels_last ? 'channels-last' : 'contiguous', ...(fused ? ['fused Adam'] : [])],
  ].join(' ');
}

export class Peer {
  readonly #python: PythonProcess;

  private constructor(
    readonly settings: PeerSettings,
    python: PythonProcess,
  ) {
    this.#python = python;
  }

  /** @throws Error with Python's last words if it does not come up, or has another number of parameters */
  static async start(
    python: string,
    network: PeerNetwork,
    settings: PeerSettings,
    parameters: number,
  ): Promise<Peer> {
    const setup = { ...network, ...settings };
    const process = await PythonProcess.start(
      python,
      'pytorch.py',
      settingsText(settings),
      setup,
      parameters,
    );
    return new Peer(settings, process);
  }

  /** Summed loss and gradient norm (null where compiled) of stored inputs. */
  loss(batch: string): Promise<{ loss: number; grad_norm: number | null }> {
    return this.#python.ask({ op: 'loss', batch });
  }

  /** One training step on stored patches. */
  async step(batch: string): Promise<StepSeconds> {
    const { wall, cpu } = await this.#python.ask<PeerTimes>({ op: 'steps', batch, count: 1 });
    return { wall: wall[0], cpu: cpu[0] };
  }

  /** Relative L2 difference of the estimate D(x; σ) of stored inputs from that stored beside them. */
  async difference(estimates: string): Promise<number> {
    return (await this.#python.ask<{ relative: number }>({ op: 'difference', estimates })).relative;
  }

  /** One evaluation of the denoiser without gradients: the mean of `count`. */
  async evaluate(estimates: string, count: number): Promise<StepSeconds> {
    const { wall, cpu } = await this.#python.ask<StepSeconds>({ op: 'evaluate', estimates, count });
    return { wall: wall / count, cpu: cpu / count };
  }

  /** Largest resident memory of the process so far. */
  async peakBytes(): Promise<number> {
    return (await this.#python.ask<{ peak_bytes: number }>({ op: 'memory' })).peak_bytes;
  }

  /** Ends the process, also in the middle of a command. */
  close(): void {
    this.#python.close();
  }
}
