/** A page in a real browser that notes what it should not do. */
import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Browser, Page } from 'playwright-core';

/** Listens on a free port of this machine. @returns its address */
export async function listen(server: Server): Promise<string> {
  server.listen(0, 'localhost');
  await once(server, 'listening');
  return `http://localhost:${(server.address() as AddressInfo).port}`;
}

export function closeServer(server: Server): void {
  server.closeAllConnections();
  server.close();
}

export class TestPage implements AsyncDisposable {
  /** Errors on the console, exceptions, and requests to other places than those known. */
  readonly problems: string[] = [];

  private constructor(
    readonly page: Page,
    readonly address: string,
    servers: readonly string[],
  ) {
    page.on('console', (message) => {
      // Chromium asks for it by itself.
      const isIcon = message.location().url.endsWith('/favicon.ico');
      if (message.type() === 'error' && !isIcon) this.problems.push(message.text());
    });
    page.on('pageerror', (error) => this.problems.push(String(error)));
    page.on('request', (request) => {
      const { protocol, host } = new URL(request.url());
      if (protocol !== 'blob:' && protocol !== 'data:' && !servers.includes(`http://${host}`))
        this.problems.push(`request to ${request.url()}`);
    });
  }

  /** @param others servers beside that of the page that it may ask */
  static async open(browser: Browser, address: string, others: readonly string[] = []): Promise<TestPage> {
    return new TestPage(await browser.newPage(), address, [address, ...others]);
  }

  /**
   * Runs the body of an async function in an empty page, with `load` in scope.
   * @param from server of the packages; by default that of the page
   */
  async run<T>(body: string, from = ''): Promise<T> {
    await this.page.goto(`${this.address}/page.css`);
    return this.page.evaluate<T>(`(async () => {
      const { load } = await import('${from}/npm/@patch-diffusion/browser/dist/web/index.js');
      ${body}
    })()`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.page.close();
  }
}
