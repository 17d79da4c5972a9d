/** Sampling in a real browser: the same pictures as in Node, cancelling, and errors in words. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generate } from 'patch-diffusion';
import type { Browser } from 'playwright-core';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPageServer } from '../../../examples/browser/serve.mjs';
import { hasChromium, launchChromium, SOFTWARE_WEBGPU } from './helpers/chromium.js';
import { writeIddpmModel, writeLatentModel, writeTinyModel } from './helpers/models.js';
import { closeServer, listen, TestPage } from './helpers/page.js';

const dir = await mkdtemp(join(tmpdir(), 'patch-diffusion-'));
afterAll(() => rm(dir, { recursive: true, force: true }));

/** Pictures as the page returns them. */
interface Drawn {
  readonly seed: number;
  readonly label: number | null;
  readonly width: number;
  readonly height: number;
  readonly rgba: number[];
}

/** A worker of a page's own that loads and samples by itself. */
const OWN_WORKER = `
  import { load } from '/npm/@patch-diffusion/browser/dist/web/index.js';
  const model = await load('model.onnx', { worker: false });
  const [{ seed, width }] = await model.sample({ seeds: [3], steps: 2 });
  await model.dispose();
  const relative = await load('missing.onnx').then(() => 'loaded', ({ code }) => code);
  postMessage({ seed, width, relative });`;

const toPlain = `const toPlain = (pictures) => pictures.map(({ seed, label, width, height, rgba }) =>
  ({ seed, label, width, height, rgba: [...rgba] }));`;

describe.runIf(hasChromium)('in Chromium', () => {
  let browser: Browser;
  let models: Record<'model' | 'iddpm' | 'latents', { snapshot: string; onnx: string }>;
  let server: Server;
  let test: TestPage;
  beforeAll(async () => {
    browser = await launchChromium();
    models = {
      model: await writeTinyModel(join(dir, 'model')),
      iddpm: await writeIddpmModel(join(dir, 'iddpm')),
      latents: await writeLatentModel(join(dir, 'latents')),
    };
    await writeFile(join(dir, 'page.onnx'), '<!doctype html><title>404</title>');
    await writeFile(join(dir, 'own-worker.js'), OWN_WORKER);
    const whole = await readFile(models.model.onnx);
    await writeFile(join(dir, 'cut.onnx'), whole.subarray(0, whole.length - 100));
    server = createPageServer({
      ...Object.fromEntries(Object.entries(models).map(([name, { onnx }]) => [`/${name}.onnx`, onnx])),
      '/latents-decoder.onnx': join(dir, 'latents-decoder.onnx'),
      '/own-worker.js': join(dir, 'own-worker.js'),
      '/page.onnx': join(dir, 'page.onnx'),
      '/cut.onnx': join(dir, 'cut.onnx'),
    });
    test = await TestPage.open(browser, await listen(server));
  });
  afterAll(async () => {
    await browser?.close();
    if (server) closeServer(server);
  });

  const seeds = [0, 17, 2 ** 40 + 5];

  it.each([
    ['without added noise', 'model', { steps: 6, sChurn: 0 }, {}],
    ['with churn', 'model', { steps: 6, sChurn: 12 }, {}],
    [
      'of the generalised sampler',
      'model',
      { steps: 6, sampler: 'generalised', sChurn: 4, discretization: 'edm', solver: 'euler' },
      {},
    ],
    ['DPM-Solver++ with noise', 'model', { steps: 6, sampler: 'dpmpp-2m-sde' }, {}],
    [
      'guided, of one class, in a window',
      'model',
      { steps: 4, classIndex: 2, guidance: 1.5, window: { width: 12, height: 8, xStart: -2, yStart: 1 } },
      { class: 2, cfg: 1.5, imageSize: { width: 12, height: 8 }, xStart: -2, yStart: 1 },
    ],
    ['of a network with few noise levels', 'iddpm', { steps: 5, sigmaMin: 0.05, sigmaMax: 0.7 }, {}],
    [
      'of a network for latents',
      'latents',
      { steps: 5, window: { width: 48, height: 32 } },
      { imageSize: { width: 48, height: 32 } },
    ],
  ] as const)('gives the pictures of Node %s', async (_, name, settings, more) => {
    const pictures = await test.run<Drawn[]>(`${toPlain}
      const model = await load('${name}.onnx', ${name === 'latents' ? "{ decoder: 'latents-decoder.onnx' }" : '{}'});
      const pictures = await model.sample({ seeds: ${JSON.stringify(seeds)}, batch: 2, ...${JSON.stringify(settings)} });
      await model.dispose();
      return toPlain(pictures);`);
    const {
      classIndex: _class,
      guidance: _guidance,
      window: _window,
      ...sampler
    } = { ...noOptions, ...settings };
    const { files } = await generate({
      ...{
        network: models[name].snapshot,
        seeds,
        out: join(dir, 'images'),
        noise: 'portable',
        precision: 'fp32',
      },
      ...{ ...sampler, ...more },
    });
    expect(pictures.map(({ seed }) => seed)).toEqual(seeds);
    for (const [n, { rgba, width, height }] of pictures.entries()) {
      const { data, info } = await sharp(files[n]).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
      expect([width, height]).toEqual([info.width, info.height]);
      const worst = Math.max(...rgba.map((byte, i) => Math.abs(byte - data[i])));
      expect(worst, `seed ${seeds[n]}`).toBeLessThanOrEqual(2);
      expect(new Set(rgba).size).toBeGreaterThan(20);
    }
    expect(test.problems).toEqual([]);
  });

  // In software it takes minutes on two busy cores.
  it.runIf(process.env.PATCH_DIFFUSION_ALL_CASES)('gives the same pictures on WebGPU', async ({ skip }) => {
    const withGpu = await launchChromium(SOFTWARE_WEBGPU);
    try {
      await using gpu = await TestPage.open(withGpu, test.address);
      const result = await gpu.run<{ backends: string[]; drawn: Drawn[][] } | null>(`${toPlain}
        if (!(await navigator.gpu?.requestAdapter())) return null;
        const [backends, drawn] = [[], []];
        // A software adapter is taken only where it is asked for.
        for (const backend of ['auto', 'webgpu']) {
          const model = await load('model.onnx', { backend });
          backends.push(model.info.backend);
          drawn.push(toPlain(await model.sample({ seeds: [17], steps: 1, sChurn: 5, classIndex: 1 })));
          await model.dispose();
        }
        return { backends, drawn };`);
      if (result === null) return skip('this Chromium has no WebGPU adapter in software');
      expect(result.backends).toEqual(['wasm', 'webgpu']);
      const [[expected], [picture]] = result.drawn;
      const worst = Math.max(...picture.rgba.map((byte, i) => Math.abs(byte - expected.rgba[i])));
      expect(worst).toBeLessThanOrEqual(2);
      expect(gpu.problems).toEqual([]);
    } finally {
      await withGpu.close();
    }
  });

  it('computes with several threads in an isolated page, in a worker or without one', async () => {
    const [inWorker, inPage] = await test.run<{ threads: number; drawn: Drawn[] }[]>(`${toPlain}
      const results = [];
      for (const worker of [true, false]) {
        const model = await load(await (await fetch('model.onnx')).arrayBuffer(), { worker, threads: 2 });
        results.push({ threads: model.info.threads, drawn: toPlain(await model.sample({ seeds: [3], steps: 3 })) });
        await model.dispose();
      }
      return results;`);
    expect(inWorker.threads).toBe(2);
    expect(inPage.drawn).toEqual(inWorker.drawn);
    expect(test.problems).toEqual([]);
  });

  it('works in a worker of the user, with addresses relative to its script', async () => {
    const { seed, width, relative } = await test.run<{ seed: number; width: number; relative: string }>(`
      const worker = new Worker('own-worker.js', { type: 'module' });
      const answer = await new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
      });
      worker.terminate();
      return answer;`);
    expect({ seed, width, relative }).toEqual({ seed: 3, width: 8, relative: 'NOT_FOUND' });
    test.problems.length = 0; // a 404 is on the console
  });

  it('says how far it is, gives pictures as they come, and stops when it is told to', async () => {
    const result = await test.run<Record<string, unknown>>(`
      const model = await load('model.onnx');
      const controller = new AbortController();
      const [steps, seen] = [[], []];
      const reason = new Error('enough');
      const error = await model.sample({
        seeds: [1, 2, 3], steps: 4, batch: 1, signal: controller.signal,
        onStep: ({ step, done, total }) => {
          steps.push([done, total, step]);
          if (done === 1 && step === 2) controller.abort(reason);
        },
        onPicture: ({ seed }) => seen.push(seed),
      }).catch((error) => error);
      const count = steps.length;
      const listener = await model.sample({ steps: 2, onStep: () => { throw new Error('of the page'); } }).catch((e) => e.message);
      const after = await model.sample({ seeds: [9], steps: 2 });
      await model.dispose();
      const disposed = await model.sample().catch((error) => error.code);
      return { isReason: error === reason, first: steps.slice(0, 6), late: count - 6, seen, listener, after: after.length, disposed };`);
    expect(result).toMatchObject({
      ...{ isReason: true, listener: 'of the page', after: 1, disposed: 'DISPOSED' },
      first: [
        [0, 3, 1],
        [0, 3, 2],
        [0, 3, 3],
        [0, 3, 4],
        [1, 3, 1],
        [1, 3, 2],
      ],
    });
    // The steps, and the picture they may have ended, that the worker took before it heard.
    expect(result.late).toBeLessThan(6);
    expect([[1], [1, 2]]).toContainEqual(result.seen);
    expect(test.problems).toEqual([]);
  });

  it('gives what the network takes the pictures for after each step', async () => {
    const result = await test.run<{ frames: Drawn[][]; last: Drawn[]; without: unknown }>(`${toPlain}
      const model = await load('model.onnx');
      const frames = [];
      const last = await model.sample({ seeds: [4, 5], steps: 5, sChurn: 0, estimates: true,
        onStep: ({ estimates }) => frames.push(toPlain(estimates)) });
      let without;
      await model.sample({ steps: 1, onStep: ({ estimates }) => { without = estimates; } });
      await model.dispose();
      return { frames, last: toPlain(last), without };`);
    expect(result.frames.map((frame) => frame.map(({ seed }) => seed))).toEqual(Array(5).fill([4, 5]));
    expect(result.without).toBeNull();
    // The last step goes to σ = 0, where the sample is the estimate.
    expect(result.frames[4]).toEqual(result.last);
    expect(result.frames[0]).not.toEqual(result.last);
    expect(test.problems).toEqual([]);
  });

  it('makes a canvas, pixels and a file of a picture', async () => {
    const result = await test.run<Record<string, unknown>>(`
      const model = await load('model.onnx');
      const [picture] = await model.sample({ steps: 2 });
      const canvas = picture.toCanvas();
      const { width, height } = picture.toImageData();
      const blob = await picture.toBlob();
      const back = await createImageBitmap(blob);
      await model.dispose();
      return { canvas: [canvas.width, canvas.height], data: [width, height], type: blob.type, back: [back.width, back.height] };`);
    expect(result).toEqual({ canvas: [8, 8], data: [8, 8], type: 'image/png', back: [8, 8] });
  });

  it.each([
    ["load('missing.onnx')", 'NOT_FOUND', /missing.onnx: the server answered 404/],
    ["load('page.onnx')", 'BAD_FILE', /page.onnx is a web page/],
    ["load('cut.onnx')", 'BAD_FILE', /cut.onnx is no ONNX file, or it is cut off/],
    ["load('model.onnx', { backend: 'webgpu' })", 'NO_WEBGPU', /WebGPU.*use backend: 'auto'/],
    ["load('model.onnx', { runtimeUrl: 'nowhere/' })", 'NO_RUNTIME', /could not be loaded from .*nowhere/],
    ["load('latents.onnx')", 'NO_DECODER', /trained on latents.*decoder: 'latents-decoder.onnx'/],
    ["load('latents-decoder.onnx')", 'FOREIGN_MODEL', /is the decoder of a model/],
    ["load('model.onnx', { decoder: 'latents-decoder.onnx' })", 'BAD_OPTION', /trained on pixels/],
    ["load('model.onnx', { decoder: 'model.onnx' })", 'FOREIGN_MODEL', /is a model, not a decoder/],
    ["load('model.onnx').then((m) => m.sample({ classIndex: 3 }))", 'BAD_OPTION', /classes 0 to 2/],
    [
      "load('model.onnx').then((m) => m.sample({ window: { width: 2 ** 17, height: 2 ** 17 } }))",
      'OUT_OF_MEMORY',
      /not enough memory/,
    ],
  ])('%s fails with %s', async (call, code, message) => {
    const error = await test.run<{ code: string; message: string }>(
      `return ${call}.then(() => null, ({ code, message }) => ({ code, message }));`,
    );
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
    test.problems.length = 0; // a 404 is on the console
  });
});

const noOptions = { classIndex: null, guidance: null, window: null };
