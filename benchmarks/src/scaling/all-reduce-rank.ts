/** One of the processes that measure sums over ranks: rank, number of ranks and port are its arguments. */
import * as torch from '@patch-diffusion/torch';
import { median } from '../timing.js';

const [rank, worldSize, port] = process.argv.slice(2).map(Number);
const ROUNDS = 30;
/** Numbers: one of latency, one of bandwidth. */
const SIZES = [16, 2 << 20];

torch.setNumThreads(1);
const store = await torch.Store.open(
  { host: '127.0.0.1', port, isServer: rank === 0, prefix: 'all-reduce' },
  60_000,
);
const group = await torch.ProcessGroup.open(store, {
  ...{ rank, worldSize, address: '127.0.0.1', timeoutMs: 60_000 },
});
const results: { bytes: number; seconds: number }[] = [];
for (const size of SIZES) {
  const values = torch.zeros([size]);
  const seconds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    await group.barrier();
    const begin = performance.now();
    await group.allReduce(values);
    seconds.push((performance.now() - begin) / 1000);
  }
  results.push({ bytes: size * 4, seconds: median(seconds) });
  values.dispose();
}
await group.barrier();
group.close();
if (rank === 0) process.stdout.write(JSON.stringify(results));
