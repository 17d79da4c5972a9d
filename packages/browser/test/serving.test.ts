/** Every documented way of serving the package: a page without a build, another server's packages, and Vite. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Browser } from 'playwright-core';
import * as vite from 'vite';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createPageServer } from '../../../examples/browser/serve.mjs';
import { hasChromium, launchChromium } from './helpers/chromium.js';
import { writeTinyModel } from './helpers/models.js';
import { closeServer, listen, TestPage } from './helpers/page.js';

const dir = await mkdtemp(join(tmpdir(), 'patch-diffusion-'));
afterAll(() => rm(dir, { recursive: true, force: true }));
const examples = resolve(import.meta.dirname, '../../../examples');

describe.runIf(hasChromium)('in Chromium', () => {
  let browser: Browser;
  let onnx: string;
  const servers: Server[] = [];
  const start = (server: Server) => {
    servers.push(server);
    return listen(server);
  };
  beforeAll(async () => {
    [browser, { onnx }] = await Promise.all([launchChromium(), writeTinyModel(join(dir, 'tiny'))]);
  });
  afterAll(async () => {
    await browser?.close();
    servers.forEach(closeServer);
  });

  it("the example's server gives its own files only", async () => {
    const address = await start(createPageServer({ '/model.onnx': onnx }));
    for (const path of [
      '/..%2f..%2fpackage.json',
      '/npm/onnxruntime-web/dist/..%2fpackage.json',
      '/%E0%A4%A',
      '/%00',
      '/none',
    ])
      expect((await fetch(address + path)).status, path).toBe(404);
    expect((await fetch(`${address}/model.onnx`)).status).toBe(200);
  });

  it('the example without a build draws what its form says', async () => {
    await using test = await TestPage.open(browser, await start(createPageServer({ '/model.onnx': onnx })));
    await test.page.goto(test.address);
    await test.page.getByText(/threads/).waitFor();
    await test.page.getByLabel('Pictures').fill('3');
    await test.page.getByRole('button', { name: 'Draw' }).click();
    await test.page.getByText(/^\d+\.\d s$/).waitFor();
    expect(await test.page.locator('canvas').count()).toBe(3);
    expect(test.problems).toEqual([]);
  });

  it('packages may come from another server', async () => {
    const packages = createPageServer({ '/model.onnx': onnx });
    packages.prependListener('request', (_, response) => {
      response.setHeader('access-control-allow-origin', '*');
      response.setHeader('cross-origin-resource-policy', 'cross-origin');
    });
    const from = await start(packages);
    const page = createServer((_, response) => {
      const isolated = {
        'cross-origin-opener-policy': 'same-origin',
        'cross-origin-embedder-policy': 'require-corp',
      };
      response.writeHead(200, { 'content-type': 'text/html', ...isolated }).end('<!doctype html>');
    });
    await using test = await TestPage.open(browser, await start(page), [from]);
    const result = await test.run<unknown>(
      `const model = await load('${from}/model.onnx', { threads: 2 });
      const [{ seed }] = await model.sample({ seeds: [4], steps: 2 });
      await model.dispose();
      return { seed, threads: model.info.threads };`,
      from,
    );
    expect(result).toEqual({ seed: 4, threads: 2 });
    expect(test.problems).toEqual([]);
  });

  it.each(['while developing', 'when it is built'])(
    'the example for Vite draws with a file that is chosen, %s',
    async (how) => {
      const root = join(examples, 'browser-vite');
      const common = { root, logLevel: 'silent', cacheDir: join(dir, 'vite') } as const;
      let address: string;
      let close: () => Promise<void>;
      if (how === 'while developing') {
        const server = await vite.createServer({ ...common, server: { port: 0 } });
        await server.listen();
        [address, close] = [server.resolvedUrls?.local[0] ?? '', () => server.close()];
      } else {
        const build = { outDir: join(dir, 'built') };
        await vite.build({ ...common, build });
        const server = await vite.preview({ ...common, build, preview: { port: 0 } });
        [address, close] = [server.resolvedUrls?.local[0] ?? '', () => server.close()];
      }
      try {
        await using test = await TestPage.open(browser, address.replace(/\/$/, ''));
        await test.page.goto(address);
        await test.page.getByLabel('Model').setInputFiles(onnx);
        await test.page.getByText(/shapes, 8×8, 0 kimg; wasm, \d+ threads/).waitFor();
        await test.page.getByLabel('Class').selectOption('square');
        await test.page.getByRole('button', { name: 'Draw' }).click();
        await test.page.locator('canvas').nth(7).waitFor();
        expect(test.problems).toEqual([]);
      } finally {
        await close();
      }
    },
  );
});
