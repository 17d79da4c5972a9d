/** The page's side of a worker: an {@link Engine} that computes elsewhere. */
import type { NamedFile, SampleHooks } from './engine.js';
import { ModelError } from './errors.js';
import { type Reply, type Request, unpackError } from './messages.js';
import type { ModelInfo, SampleSettings } from './options.js';
import type { RuntimeOptions } from './runtime.js';

/** A request without its number. */
type Unnumbered<R> = R extends unknown ? Omit<R, 'id'> : never;

interface Pending {
  readonly hooks: SampleHooks | null;
  resolve(reply: Extract<Reply, { type: 'done' }>): void;
  reject(error: unknown): void;
}

export class RemoteEngine {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;
  #info: ModelInfo | null = null;
  #ended: ModelError | null = null;

  private constructor(worker: Worker) {
    this.#worker = worker;
    worker.addEventListener('message', ({ data }: MessageEvent<Reply>) => this.#receive(data));
    worker.addEventListener('error', (event) => {
      const reason = event.message || 'its script could not be loaded';
      this.#end(new ModelError('NO_RUNTIME', `the worker stopped: ${reason}`));
    });
  }

  /** @param ownsFiles whether the files' memory may go to the worker */
  static async open(
    worker: Worker,
    file: NamedFile,
    decoder: NamedFile | null,
    { options, ownsFiles }: { readonly options: RuntimeOptions; readonly ownsFiles: boolean },
  ): Promise<RemoteEngine> {
    const engine = new RemoteEngine(worker);
    const buffers = [file, decoder].flatMap((one) => (one ? [one.bytes.buffer as ArrayBuffer] : []));
    try {
      const { info } = await engine.#ask(
        { type: 'load', file, decoder, options },
        { transfer: ownsFiles ? buffers : [] },
      );
      engine.#info = info ?? null;
      return engine;
    } catch (error) {
      worker.terminate();
      throw error;
    }
  }

  get info(): ModelInfo {
    if (!this.#info) throw new ModelError('DISPOSED', 'no model is loaded');
    return this.#info;
  }

  async sample(settings: SampleSettings, hooks: SampleHooks): Promise<void> {
    const { signal } = hooks;
    signal?.throwIfAborted();
    const id = this.#lastId + 1;
    const cancel = () => this.#send({ id, type: 'cancel' });
    signal?.addEventListener('abort', cancel);
    try {
      await this.#ask({ type: 'sample', settings }, { hooks });
    } catch (error) {
      // The reason itself, which a message could not carry.
      signal?.throwIfAborted();
      throw error;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  /** Ends the worker, which frees all of its memory at once. */
  async dispose(): Promise<void> {
    this.#worker.terminate();
    this.#end(new ModelError('DISPOSED', 'the model was disposed; load it anew'));
  }

  #ask(
    request: Unnumbered<Request>,
    { hooks = null, transfer = [] }: { hooks?: SampleHooks | null; transfer?: Transferable[] },
  ): Promise<Extract<Reply, { type: 'done' }>> {
    return new Promise((resolve, reject) => {
      if (this.#ended) return reject(this.#ended);
      const id = ++this.#lastId;
      this.#pending.set(id, { hooks, resolve, reject });
      this.#send({ ...request, id }, transfer);
    });
  }

  #send(request: Request, transfer: Transferable[] = []): void {
    this.#worker.postMessage(request, transfer);
  }

  #receive(reply: Reply): void {
    const pending = this.#pending.get(reply.id);
    if (!pending) return;
    if (reply.type === 'step' || reply.type === 'picture') {
      this.#report(reply, pending);
      return;
    }
    this.#pending.delete(reply.id);
    if (reply.type === 'done') pending.resolve(reply);
    else pending.reject(unpackError(reply.error));
  }

  /** What a listener of the page throws ends the sampling, as it does without a worker. */
  #report(reply: Extract<Reply, { type: 'step' | 'picture' }>, { hooks, reject }: Pending): void {
    try {
      if (reply.type === 'step') hooks?.onStep(reply.progress);
      else hooks?.onPicture(reply.picture);
    } catch (error) {
      this.#pending.delete(reply.id);
      this.#send({ id: reply.id, type: 'cancel' });
      reject(error);
    }
  }

  #end(error: ModelError): void {
    this.#ended = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
