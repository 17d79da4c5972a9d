import { describe, expect, it } from 'vitest';
import { firstNode, readEnvironment } from '../../src/distributed/environment.js';

const torchrun = {
  ...{ RANK: '3', WORLD_SIZE: '4', LOCAL_RANK: '1', LOCAL_WORLD_SIZE: '2' },
  ...{ MASTER_ADDR: 'gpu1', MASTER_PORT: '29500' },
};
const srun = {
  ...{
    SLURM_JOB_ID: '17',
    SLURM_STEP_ID: '0',
    SLURM_PROCID: '2',
    SLURM_STEP_NUM_TASKS: '4',
    SLURM_LOCALID: '0',
  },
  ...{ SLURM_STEP_NODELIST: 'gpu[03-04]', SLURM_STEP_TASKS_PER_NODE: '2(x2)', SLURM_NODEID: '1' },
};
const mpirun = {
  ...{ OMPI_COMM_WORLD_RANK: '1', OMPI_COMM_WORLD_SIZE: '2' },
  ...{ OMPI_COMM_WORLD_LOCAL_RANK: '1', OMPI_COMM_WORLD_LOCAL_SIZE: '2' },
};

describe('the environment', () => {
  it('of torchrun, whose agent may hold the store', () => {
    const place = { rank: 3, worldSize: 4, localRank: 1, localWorldSize: 2, host: 'gpu1', port: 29500 };
    expect(readEnvironment(torchrun)).toMatchObject(place);
    expect(readEnvironment({ ...torchrun, RANK: '0' })).toMatchObject({ isServer: true });
    const agent = { RANK: '0', TORCHELASTIC_USE_AGENT_STORE: 'True', TORCHELASTIC_RESTART_COUNT: '1' };
    expect(readEnvironment({ ...torchrun, ...agent })).toMatchObject({ isServer: false, group: '1' });
  });

  it('of srun', () => {
    expect(readEnvironment(srun)).toMatchObject({
      ...{ rank: 2, worldSize: 4, localRank: 0, localWorldSize: 2, host: 'gpu03', isServer: false },
      group: 'slurm/17.0',
    });
    const told = { ...srun, MASTER_ADDR: '10.0.0.1', MASTER_PORT: '5000' };
    expect(readEnvironment(told)).toMatchObject({ host: '10.0.0.1', port: 5000 });
    // Of all ranks alike.
    expect(readEnvironment({ ...srun, SLURM_PROCID: '0' })!.port).toBe(readEnvironment(srun)!.port);
    expect(['gpu[03-05,9],login', 'a1,a2', 'node-7'].map(firstNode)).toEqual(['gpu03', 'a1', 'node-7']);
  });

  it('of mpirun', () => {
    const place = { rank: 1, worldSize: 2, localRank: 1, localWorldSize: 2, host: '127.0.0.1' };
    expect(readEnvironment(mpirun)).toMatchObject(place);
    expect(() => readEnvironment({ ...mpirun, OMPI_COMM_WORLD_LOCAL_SIZE: '1' })).toThrow(
      'mpirun -x MASTER_ADDR',
    );
  });

  it('of a process alone, also within Slurm', () => {
    for (const env of [
      {},
      { MASTER_ADDR: 'left over' },
      { RANK: '0', WORLD_SIZE: '1' },
      { ...srun, SLURM_PROCID: '0', SLURM_STEP_NUM_TASKS: '1' },
      // A batch script: it has tasks, but is no step.
      { SLURM_JOB_ID: '17', SLURM_NTASKS: '4', SLURM_PROCID: '0' },
    ]) {
      expect(readEnvironment(env)).toBe(null);
    }
  });

  it('prefers an explicit rank', () => {
    expect(readEnvironment({ ...srun, ...mpirun, ...torchrun })).toMatchObject({ rank: 3, host: 'gpu1' });
  });

  it.each([
    [{ WORLD_SIZE: '2' }, 'WORLD_SIZE is set, but RANK, MASTER_ADDR and MASTER_PORT are not'],
    [{ ...torchrun, MASTER_ADDR: '' }, 'RANK, WORLD_SIZE and MASTER_PORT are set, but MASTER_ADDR is not'],
    [{ ...torchrun, RANK: '4' }, 'rank 4 is not in a world of 4'],
    [{ ...torchrun, RANK: '-1' }, 'RANK=-1 is not a whole number'],
    [{ ...torchrun, MASTER_PORT: '70000' }, 'MASTER_PORT=70000 is not a whole number from 1 to 65535'],
  ])('that makes no sense is refused: %o', (env, message) => {
    expect(() => readEnvironment(env)).toThrow(message);
  });
});
