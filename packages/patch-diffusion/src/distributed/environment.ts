/**
 * Which of several processes this one is, as the program that starts them says in the environment: torchrun and
 * Kubernetes (`RANK` and its like), Slurm's `srun`, Open MPI's `mpirun`.
 */
import { usageError } from '../common/errors.js';

/** The place of a process among those that work together. */
export interface Place {
  readonly rank: number;
  readonly worldSize: number;
  /** Rank among the processes of this machine, and their number. */
  readonly localRank: number;
  readonly localWorldSize: number;
  /** Where the processes meet. */
  readonly host: string;
  readonly port: number;
  /** Whether this process serves the store at that address; torchrun's agent may do so itself. */
  readonly isServer: boolean;
  /** Tells runs apart that follow one another at the same address. */
  readonly group: string;
}

type Env = Readonly<Record<string, string | undefined>>;

/** Ports that are made of a job's number. */
const FIRST_PORT = 20_000;
const PORTS = 10_000;

/**
 * The place of this process, or null where it works alone. An explicit `RANK` wins over Slurm's and Open MPI's variables.
 * @throws UserError (exit code 2) where only half of the variables are set, or one has no sense
 */
export function readEnvironment(env: Env = process.env): Place | null {
  const place = fromRank(env) ?? fromSlurm(env) ?? fromOpenMpi(env);
  if (place === null) {
    if (isSet(env, 'WORLD_SIZE') && integer(env, 'WORLD_SIZE', 1) > 1) throw incomplete(env);
    return null;
  }
  if (place.rank >= place.worldSize)
    throw wrong(`rank ${place.rank} is not in a world of ${place.worldSize}; ranks count from 0`);
  return place.worldSize > 1 ? place : null;
}

const NEEDED = ['RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'] as const;

function fromRank(env: Env): Place | null {
  if (!isSet(env, 'RANK')) return null;
  if (env.WORLD_SIZE?.trim() !== '1' && NEEDED.some((name) => !isSet(env, name))) throw incomplete(env);
  const rank = integer(env, 'RANK', 0);
  const worldSize = integer(env, 'WORLD_SIZE', 1);
  const host = env.MASTER_ADDR?.trim() ?? '';
  // Without word of it, processes that meet at the loopback address are all on one machine, others each on its own.
  const [localRank, localWorldSize] = isLoopback(host) ? [rank, worldSize] : [0, 1];
  const agentServes = env.TORCHELASTIC_USE_AGENT_STORE === 'True';
  return {
    rank,
    worldSize,
    localRank: isSet(env, 'LOCAL_RANK') ? integer(env, 'LOCAL_RANK', 0) : localRank,
    localWorldSize: isSet(env, 'LOCAL_WORLD_SIZE') ? integer(env, 'LOCAL_WORLD_SIZE', 1) : localWorldSize,
    host,
    port: worldSize > 1 ? integer(env, 'MASTER_PORT', 1, 65_535) : 0,
    isServer: rank === 0 && !agentServes,
    group: [env.TORCHELASTIC_RUN_ID, env.TORCHELASTIC_RESTART_COUNT].filter(Boolean).join('/'),
  };
}

/** Only within a step of `srun`: a batch script itself has a number of tasks, but is one process. */
function fromSlurm(env: Env): Place | null {
  if (!isSet(env, 'SLURM_PROCID') || !isSet(env, 'SLURM_STEP_NUM_TASKS')) return null;
  const rank = integer(env, 'SLURM_PROCID', 0);
  const nodes = env.SLURM_STEP_NODELIST?.trim() ?? '';
  return {
    rank,
    worldSize: integer(env, 'SLURM_STEP_NUM_TASKS', 1),
    localRank: isSet(env, 'SLURM_LOCALID') ? integer(env, 'SLURM_LOCALID', 0) : 0,
    localWorldSize: slurmTasks(env),
    host: env.MASTER_ADDR?.trim() || firstNode(nodes),
    port: portOf(env, `${env.SLURM_JOB_ID ?? ''}.${env.SLURM_STEP_ID ?? ''}`),
    isServer: rank === 0,
    group: `slurm/${env.SLURM_JOB_ID ?? ''}.${env.SLURM_STEP_ID ?? ''}`,
  };
}

/** Tasks on this node: `SLURM_STEP_TASKS_PER_NODE` is such as `2(x3),1`, by node. */
function slurmTasks(env: Env): number {
  const counts = (env.SLURM_STEP_TASKS_PER_NODE ?? '').split(',').flatMap((part) => {
    const [, count, times = '1'] = /^(\d+)(?:\(x(\d+)\))?$/.exec(part.trim()) ?? [];
    return count === undefined ? [] : Array.from({ length: Number(times) }, () => Number(count));
  });
  return Math.max(1, counts[Number(env.SLURM_NODEID ?? 0)] ?? counts[0] ?? 1);
}

/** The first host of a list such as `gpu[03-05,9],login`. */
export function firstNode(list: string): string {
  const [, name, range] = /^([^,[]*)(?:\[([^\]]*)\])?/.exec(list) ?? [];
  if (!name && !range) throw wrong('SLURM_STEP_NODELIST names no host; set MASTER_ADDR to that of rank 0');
  return `${name}${range?.split(/[,-]/)[0] ?? ''}`;
}

function fromOpenMpi(env: Env): Place | null {
  if (!isSet(env, 'OMPI_COMM_WORLD_RANK') || !isSet(env, 'OMPI_COMM_WORLD_SIZE')) return null;
  const rank = integer(env, 'OMPI_COMM_WORLD_RANK', 0);
  const worldSize = integer(env, 'OMPI_COMM_WORLD_SIZE', 1);
  const localWorldSize = isSet(env, 'OMPI_COMM_WORLD_LOCAL_SIZE')
    ? integer(env, 'OMPI_COMM_WORLD_LOCAL_SIZE', 1)
    : 1;
  if (localWorldSize < worldSize && !isSet(env, 'MASTER_ADDR'))
    throw wrong(
      'mpirun has started processes on several hosts; tell them where rank 0 is: mpirun -x MASTER_ADDR=host',
    );
  const job = env.PMIX_NAMESPACE ?? env.OMPI_MCA_ess_base_jobid ?? '';
  return {
    rank,
    worldSize,
    localRank: isSet(env, 'OMPI_COMM_WORLD_LOCAL_RANK') ? integer(env, 'OMPI_COMM_WORLD_LOCAL_RANK', 0) : 0,
    localWorldSize,
    host: env.MASTER_ADDR?.trim() || '127.0.0.1',
    port: portOf(env, job),
    isServer: rank === 0,
    group: `mpi/${job}`,
  };
}

/** `MASTER_PORT`, or a port that jobs on the same host hardly share. */
function portOf(env: Env, job: string): number {
  if (isSet(env, 'MASTER_PORT')) return integer(env, 'MASTER_PORT', 1, 65_535);
  let hash = 0;
  for (const byte of Buffer.from(job)) hash = (hash * 31 + byte) % PORTS;
  return FIRST_PORT + hash;
}

/** Whether an address is this machine's own, seen from it alone. */
const isLoopback = (host: string): boolean => /^(localhost|127\.|::1$)/.test(host);

const isSet = (env: Env, name: string): boolean => Boolean(env[name]?.trim());

function integer(env: Env, name: string, min: number, max = 1_000_000): number {
  const text = env[name]!.trim();
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw wrong(`${name}=${text} is not a whole number from ${min} to ${max}`);
  return value;
}

function incomplete(env: Env): Error {
  const list = (names: readonly string[]) => names.join(', ').replace(/, ([^,]*)$/, ' and $1');
  const there = NEEDED.filter((name) => isSet(env, name));
  const missing = NEEDED.filter((name) => !isSet(env, name));
  const verb = (names: readonly string[]) => (names.length > 1 ? 'are' : 'is');
  return wrong(
    `${list(there)} ${verb(there)} set, but ${list(missing)} ${verb(missing)} not; set all four (torchrun does), or unset them to work with one process`,
  );
}

const wrong = (message: string): Error => usageError('BAD_ENVIRONMENT', message);
