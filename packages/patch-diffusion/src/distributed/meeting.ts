/** How ranks come together: at a store that one of them serves, where each says that it is there. */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import * as torch from '@patch-diffusion/torch';
import { UserError, usageError } from '../common/errors.js';
import type { Place } from './environment.js';

/** Times that a cluster may need otherwise. */
export interface RanksOptions {
  /** How long the ranks wait for each other at the start. */
  readonly joinMs: number;
  /** A rank without a sign of life for so long is lost. */
  readonly lostMs: number;
}

/** `PATCH_DIFFUSION_JOIN_SEC` and `PATCH_DIFFUSION_LOST_SEC`, or their defaults. */
export function ranksOptions(env: Readonly<Record<string, string | undefined>> = process.env): RanksOptions {
  const ms = (name: string, fallback: number) => {
    const text = env[name]?.trim();
    if (!text) return fallback * 1000;
    const sec = Number(text);
    if (!(sec >= 1 && sec <= 86_400))
      throw usageError('BAD_ENVIRONMENT', `${name}=${text} is not a number of seconds from 1 to 86400`);
    return sec * 1000;
  };
  return { joinMs: ms('PATCH_DIFFUSION_JOIN_SEC', 120), lostMs: ms('PATCH_DIFFUSION_LOST_SEC', 20) };
}

/** What libtorch may need beyond its time. */
const SILENCE_MS = 1000;
/** How long rank 0 waits for others to read why nothing comes of it. */
const HEAR_MS = 5000;

/** @throws UserError where the port is taken, or nobody answers in time */
export async function openStore(
  { rank, host, port, isServer, group }: Place,
  { joinMs }: RanksOptions,
): Promise<torch.Store> {
  const address: torch.StoreAddress = { host, port, isServer, prefix: `patch-diffusion/${group}` };
  const timer = new AbortController();
  // Another program may listen there, take the connection, and say nothing: libtorch then waits without an end.
  const silence = sleep(joinMs + SILENCE_MS, null, timer).then(() => {
    throw new torch.TorchError('ERR_TORCH', 'it takes connections and says nothing');
  });
  silence.catch(() => {});
  try {
    return await (isServer
      ? torch.Store.open(address, joinMs)
      : Promise.race([torch.Store.open(address, joinMs), silence]));
  } catch (cause) {
    if (!(cause instanceof torch.TorchError) || cause.code !== 'ERR_TORCH') throw cause;
    const message = isServer
      ? `rank 0 cannot listen on port ${port} (${cause.message}); set MASTER_PORT to a free one on all ranks`
      : `rank ${rank} got no answer from rank 0 at ${host}, port ${port}, within ${joinMs / 1000} s; start rank 0, or correct MASTER_ADDR and MASTER_PORT`;
    throw new UserError('NO_MASTER', message, { cause });
  } finally {
    timer.abort();
  }
}

/**
 * Waits until all ranks are there and agree on their number.
 * @returns what each one is: "process 7 on host"
 */
export async function meet(
  store: torch.Store,
  { rank, worldSize, host, port, isServer }: Place,
  { joinMs }: RanksOptions,
): Promise<string[]> {
  const end = Date.now() + joinMs;
  const giveUp = async (message: string): Promise<never> => {
    let heard = await store.add('heard', 1);
    // The store is rank 0's: it stays until the others have read there what is wrong.
    for (const last = Date.now() + HEAR_MS; isServer && heard < worldSize && Date.now() < last; ) {
      await sleep(50);
      heard = await store.add('heard', 0);
    }
    throw usageError('BAD_ENVIRONMENT', message);
  };
  const refuse = async (message: string): Promise<never> => {
    await store.set('refused', message);
    return giveUp(message);
  };
  if (rank === 0) await store.set('world', String(worldSize));
  if ((await store.add(`taken/${rank}`, 1)) > 1)
    return refuse(`two processes are rank ${rank}; give each its own RANK`);
  // Who is here has agreed: when all are, nobody refuses any more.
  const world = await store.get('world', joinMs);
  if (world !== null && Number(world) !== worldSize)
    return refuse(
      `rank ${rank} was told of ${worldSize} ranks, rank 0 of ${world}; start all with the same number`,
    );
  await store.set(`here/${rank}`, `process ${process.pid} on ${hostname()}`);
  const names: string[] = [];
  while (names.length < worldSize) {
    const name = await store.get(`here/${names.length}`, Math.min(200, Math.max(0, end - Date.now())));
    const refused = await store.get('refused', 0);
    if (refused !== null) return giveUp(refused);
    if (name !== null) names.push(name);
    else if (Date.now() >= end) throw await missing(store, { worldSize, host, port, joinMs });
  }
  return names;
}

async function missing(
  store: torch.Store,
  { worldSize, host, port, joinMs }: { worldSize: number; host: string; port: number; joinMs: number },
): Promise<UserError> {
  const names = await Promise.all(
    Array.from({ length: worldSize }, (_, other) => store.get(`here/${other}`, 0).catch(() => null)),
  );
  const absent = names.flatMap((name, other) => (name === null ? [other] : []));
  const who = `${absent.length > 1 ? 'ranks' : 'rank'} ${absent.join(', ')} of ${worldSize}`;
  return new UserError(
    'RANK_MISSING',
    `${who} did not come to ${host}, port ${port}, within ${joinMs / 1000} s; start all ranks at the same time`,
  );
}
