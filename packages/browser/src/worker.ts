/** The worker: holds one model and samples it. */
import { Engine } from './engine.js';
import { ModelError } from './errors.js';
import { packError, type Reply, type Request } from './messages.js';

let engine: Engine | null = null;
const samplings = new Map<number, AbortController>();

const reply = (message: Reply, transfer: Transferable[] = []) => self.postMessage(message, { transfer });

self.addEventListener('message', async ({ data }: MessageEvent<Request>) => {
  const { id } = data;
  if (data.type === 'cancel') return samplings.get(id)?.abort();
  try {
    reply({ id, type: 'done', ...(await answer(data)) });
  } catch (error) {
    reply({ id, type: 'failed', error: packError(error) });
  }
});

async function answer(request: Exclude<Request, { type: 'cancel' }>): Promise<Pick<Engine, 'info'> | null> {
  switch (request.type) {
    case 'load':
      engine = await Engine.open(request.file, request.decoder, request.options);
      return { info: engine.info };
    case 'sample':
      await sample(request);
      return null;
    case 'dispose':
      await engine?.dispose();
      return null;
  }
}

async function sample({ id, settings }: Extract<Request, { type: 'sample' }>): Promise<void> {
  if (!engine) throw new ModelError('DISPOSED', 'no model is loaded');
  const controller = new AbortController();
  samplings.set(id, controller);
  try {
    await engine.sample(settings, {
      onStep: (progress) =>
        reply(
          { id, type: 'step', progress },
          progress.estimates?.map(({ rgba }) => rgba.buffer),
        ),
      onPicture: (picture) => reply({ id, type: 'picture', picture }, [picture.rgba.buffer]),
      signal: controller.signal,
    });
  } finally {
    samplings.delete(id);
  }
}
