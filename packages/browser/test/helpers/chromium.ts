/** A real browser, where there is one: Chromium of the system (Debian: apt-get install chromium), or CHROMIUM=path. */
import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

const PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

const executablePath = process.env.CHROMIUM ?? PATHS.find((path) => existsSync(path));

export const hasChromium = executablePath !== undefined;
if (!hasChromium) console.warn('skipped: there is no Chromium (apt-get install chromium, or set CHROMIUM)');

/** Chromium's own WebGPU adapter in software, where there is no graphics card. */
export const SOFTWARE_WEBGPU = [
  ...['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'],
  ...['--enable-unsafe-swiftshader', '--ignore-gpu-blocklist'],
];

export function launchChromium(more: readonly string[] = []): Promise<Browser> {
  // Containers have no user namespaces, and often a small /dev/shm.
  const args = ['--no-sandbox', '--disable-dev-shm-usage', ...more];
  return chromium.launch({ executablePath: executablePath ?? '', args });
}
