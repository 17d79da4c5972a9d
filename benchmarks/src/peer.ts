/**
 * The peer: the same network and training step in eager PyTorch (peer/train_step.py), in a process of its own that
 * answers JSON lines, so that its steps alternate with ours.
 */
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { AdamPath } from '@patch-diffusion/torch';
import * as torch from '@patch-diffusion/torch';

const SCRIPT = fileURLToPath(new URL('../peer/train_step.py', import.meta.url));

/** Why there is no peer. */
export class NoPeer extends Error {}

/** Memory orders that the peer is measured in: PyTorch's default, and the one that is often quicker. */
export const layouts = ['contiguous', 'channels-last'] as const;
export type Layout = (typeof layouts)[number];

/** Seconds per step, one entry per step. */
export interface PeerTimes {
  readonly total: number[];
  readonly forward: number[];
  readonly backward: number[];
  readonly update: number[];
  readonly cpu: number[];
}

/** First line of the conversation. */
export interface PeerSetup {
  readonly config: Record<string, unknown>;
  /** safetensors file of our network's weights. */
  readonly weights: string;
  readonly threads: number;
  readonly device: string;
  readonly channels_last: boolean;
  readonly adam: AdamPath;
}

/**
 * A Python whose torch is the very build that this process has loaded.
 *
 * @throws NoPeer saying which Pythons were tried and what was wrong with each.
 */
export function findPython(): string {
  const { libraryFolder, config } = torch.version();
  // …/lib/python3.x/site-packages/torch/lib, in a virtual environment
  const environment = join(libraryFolder, '../../../../..', 'bin', 'python');
  const candidates = process.env.PYTHON
    ? [process.env.PYTHON]
    : [...(existsSync(environment) ? [environment] : []), 'python3', 'python'];
  const reasons: string[] = [];
  for (const python of candidates) {
    try {
      const program = 'import torch; print(torch.__version__); print(torch.__config__.show())';
      const stdio: ('ignore' | 'pipe')[] = ['ignore', 'pipe', 'ignore'];
      const [version, ...built] = execFileSync(python, ['-I', '-c', program], {
        encoding: 'utf8',
        stdio,
      }).split('\n');
      if (sameText(built.join('\n'), config)) return python;
      reasons.push(
        `${python} has torch ${version}, another build than the libtorch in use (${torch.version().torch})`,
      );
    } catch {
      reasons.push(`${python} has no torch`);
    }
  }
  throw new NoPeer(`${reasons.join('; ')}; set PYTHON to one that has this build of torch`);
}

function sameText(a: string, b: string): boolean {
  return a.replace(/\s+/g, ' ').trim() === b.replace(/\s+/g, ' ').trim();
}

export class Peer {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;
  readonly #errors: string[];

  private constructor(
    process: ChildProcessWithoutNullStreams,
    lines: AsyncIterator<string>,
    errors: string[],
    /** Memory order of its weights and inputs. */
    readonly layout: Layout,
  ) {
    this.#process = process;
    this.#lines = lines;
    this.#errors = errors;
  }

  /** Parameters of the peer's network, as it counts them. */
  parameters = 0;

  /** @throws NoPeer with Python's last words if it does not come up. */
  static async start(python: string, setup: PeerSetup): Promise<Peer> {
    const child = spawn(python, ['-I', SCRIPT], { cwd: dirname(SCRIPT) });
    child.stdin.on('error', () => undefined); // a peer that died shows by its missing answer
    const errors: string[] = [];
    child.stderr.setEncoding('utf8').on('data', (text: string) => errors.push(text));
    const ended = once(child, 'close').catch(() => undefined); // by then all of stderr is read
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const layout = setup.channels_last ? 'channels-last' : 'contiguous';
    const peer = new Peer(child, lines, errors, layout);
    try {
      const hello = await peer.#ask<{ parameters: number }>(setup);
      peer.parameters = hello.parameters;
      return peer;
    } catch {
      peer.close();
      await ended;
      const reason = errors.join('').trim().split('\n').at(-1);
      throw new NoPeer(`${python} ${SCRIPT} did not start: ${reason || 'it said nothing'}`);
    }
  }

  /** Summed loss and gradient norm of stored inputs. */
  loss(batch: string): Promise<{ loss: number; grad_norm: number }> {
    return this.#ask({ op: 'loss', batch });
  }

  steps(batch: string, count: number): Promise<PeerTimes> {
    return this.#ask({ op: 'steps', batch, count });
  }

  calls(count: number): Promise<{ call_us: number }> {
    return this.#ask({ op: 'calls', count });
  }

  close(): void {
    this.#process.stdin.end();
  }

  async #ask<T>(message: object): Promise<T> {
    this.#process.stdin.write(`${JSON.stringify(message)}\n`);
    const answer = await this.#lines.next();
    if (answer.done) throw new Error(`the PyTorch peer stopped:\n${this.#errors.join('').trim()}`);
    return JSON.parse(answer.value) as T;
  }
}
