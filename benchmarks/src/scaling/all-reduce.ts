/** How long processes of this machine take to sum tensors, as latency and bandwidth of a ring. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { freePort } from '@patch-diffusion/torch/free-port';
import type { Network } from './simulate.js';

const PROGRAM = fileURLToPath(new URL('./all-reduce-rank.js', import.meta.url));

/** @throws Error where one of the processes fails */
export async function measureAllReduce(ranks: number): Promise<Network> {
  const port = await freePort();
  const children = Array.from({ length: ranks }, (_, rank) =>
    spawn(process.execPath, [PROGRAM, String(rank), String(ranks), String(port)], {
      stdio: ['ignore', rank === 0 ? 'pipe' : 'ignore', 'inherit'],
    }),
  );
  let text = '';
  children[0].stdout!.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'close'))[0] as number));
  const failed = codes.findIndex((code) => code !== 0);
  if (failed >= 0) throw new Error(`rank ${failed} of the all-reduce measurement has failed (see above)`);
  const [small, large] = JSON.parse(text) as { bytes: number; seconds: number }[];
  const messages = 2 * (ranks - 1);
  return {
    latency: small.seconds / messages,
    bytesPerSec: (large.bytes - small.bytes) / ranks / ((large.seconds - small.seconds) / messages),
  };
}
