/** Pages of the studio in a browser, and what they should not do. */
import axe from 'axe-core';
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core';
import { launchChromium } from '../../../browser/test/helpers/chromium.js';
import type { Studio } from '../../src/studio/studio.js';

export class StudioPages {
  /** Complaints of the pages, and what they loaded from elsewhere. */
  readonly faults: string[] = [];
  readonly #browser: Browser;

  private constructor(browser: Browser) {
    this.#browser = browser;
  }

  static async launch(): Promise<StudioPages> {
    return new StudioPages(await launchChromium());
  }

  async open({ url }: Studio, hash: string, options: BrowserContextOptions = {}): Promise<Page> {
    const { faults } = this;
    const context = await this.#browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const page = await context.newPage();
    // As long as the slowest machine takes: a test that fails says so later, one that passes is not slower.
    page.setDefaultTimeout(240_000);
    page.on('console', (message) => {
      // A request that is refused with good reason is among them.
      if (/status of 422/.test(message.text())) return;
      if (['error', 'warning'].includes(message.type())) faults.push(`${hash}: ${message.text()}`);
    });
    page.on('pageerror', (error) => faults.push(`${hash}: ${error.message}`));
    page.on('request', (request) => {
      const { hostname, protocol } = new URL(request.url());
      if (protocol.startsWith('http') && hostname !== '127.0.0.1') faults.push(`${hash}: ${request.url()}`);
    });
    await page.goto(`${url}${hash}`);
    return page;
  }

  close(): Promise<void> {
    return this.#browser.close();
  }
}

/** Rules of accessibility that the page breaks. */
export async function violations(page: Page): Promise<string[]> {
  // As a developer's tool, which the pages' security policy does not bind.
  return page.evaluate(`${axe.source}; axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
    violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ target }) => target).join(', ')))`) as Promise<
    string[]
  >;
}

/** Pixels of canvases, RGBA, from copies: the pages' own are made for drawing, not for reading. */
export function canvasPixels(canvases: Locator): Promise<number[][]> {
  return canvases.evaluateAll((all) =>
    (all as HTMLCanvasElement[]).map((canvas) => {
      const { width, height } = canvas;
      const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
      copy?.drawImage(canvas, 0, 0);
      return [...(copy?.getImageData(0, 0, width, height).data ?? [])];
    }),
  );
}
