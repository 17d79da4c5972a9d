/** Opens a page in the user's browser, where there is one. */
import { spawn } from 'node:child_process';

/** Whether somebody sits before a screen that this process can use. */
export function hasScreen(): boolean {
  if (!process.stdout.isTTY || process.env.CI || process.env.SSH_CONNECTION) return false;
  const isDesktop = process.platform === 'darwin' || process.platform === 'win32';
  return isDesktop || Boolean(process.env.DISPLAY || process.env.WAYLAND_DISPLAY);
}

/** Never fails: the address is printed as well. */
export function openBrowser(url: string): void {
  const commands: Partial<Record<NodeJS.Platform, [string, ...string[]]>> = {
    darwin: ['open', url],
    win32: ['rundll32', 'url.dll,FileProtocolHandler', url],
  };
  const [program, ...args] = commands[process.platform] ?? ['xdg-open', url];
  const child = spawn(program, args, { detached: true, stdio: 'ignore' });
  child.on('error', () => {});
  child.unref();
}
