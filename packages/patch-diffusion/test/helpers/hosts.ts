/**
 * Hosts on one machine: Linux network namespaces, each with an address and a name of its own, joined by a bridge in a
 * further one. Nothing of the machine's own network is touched.
 */
import { spawnSync } from 'node:child_process';

/** Why there can be no such hosts here, or null. */
export function noHostsBecause(): string | null {
  if (process.platform !== 'linux' || process.getuid?.() !== 0) return 'needs root on Linux';
  const name = `pd${process.pid}-try`;
  const made = spawnSync('ip', ['netns', 'add', name]);
  if (made.error) return 'needs ip (iproute2)';
  if (made.status !== 0) return 'network namespaces are not allowed here';
  ip('netns', 'del', name);
  return null;
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(`ip ${args.join(' ')}: ${stderr}`);
}

let networks = 0;

/** A network of hosts `host0`, `host1`, … */
export class Hosts {
  readonly #prefix = `pd${process.pid}-${networks++}-`;

  constructor(readonly count: number) {
    try {
      ip('netns', 'add', this.#name('net'));
      ip('-n', this.#name('net'), 'link', 'add', 'bridge', 'type', 'bridge');
      ip('-n', this.#name('net'), 'link', 'set', 'bridge', 'up');
      for (let host = 0; host < count; host++) this.#add(host);
    } catch (error) {
      this.remove();
      throw error;
    }
  }

  #name = (host: number | 'net'): string => `${this.#prefix}${host}`;

  #add(host: number): void {
    const [name, net] = [this.#name(host), this.#name('net')];
    ip('netns', 'add', name);
    ip('-n', name, 'link', 'set', 'lo', 'up');
    ip('-n', net, 'link', 'add', `to${host}`, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', name);
    ip('-n', net, 'link', 'set', `to${host}`, 'master', 'bridge', 'up');
    ip('-n', name, 'address', 'add', `${this.address(host)}/24`, 'dev', 'eth0');
    ip('-n', name, 'link', 'set', 'eth0', 'up');
  }

  address(host: number): string {
    return `10.99.0.${host + 1}`;
  }

  /** Words before a command line that is to run on a host; the process keeps its number. */
  on(host: number): string[] {
    const enter = `hostname host${host} && exec "$@"`;
    return ['ip', 'netns', 'exec', this.#name(host), 'unshare', '--uts', 'sh', '-c', enter, 'sh'];
  }

  /** Pulls a host's cable: what it sends gets lost, and nobody is told. */
  cut(host: number): void {
    ip('-n', this.#name('net'), 'link', 'set', `to${host}`, 'down');
  }

  mend(host: number): void {
    ip('-n', this.#name('net'), 'link', 'set', `to${host}`, 'up');
  }

  remove(): void {
    for (const host of [...Array(this.count).keys(), 'net' as const])
      spawnSync('ip', ['netns', 'del', this.#name(host)]);
  }
}
