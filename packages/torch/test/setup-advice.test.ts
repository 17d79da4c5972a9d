import { describe, expect, it } from 'vitest';
import { advise, type RuntimeFacts } from '../src/setup/advice.js';
import { gatherMachineFacts, type MachineFacts } from '../src/setup/facts.js';
import { thisHost } from '../src/setup/host.js';

const machine: MachineFacts = {
  node: 'v20.0.0',
  os: 'Linux',
  cpu: { model: 'a', threads: 8, cores: 4, vector: ['AVX', 'AVX2'] },
  memory: { totalBytes: 16 * 2 ** 30, freeBytes: 8 * 2 ** 30 },
  gpus: [],
};
const gpu = { name: 'NVIDIA T4', memory: '15360 MiB', driver: '550' };
const newest = { version: '2.13.0+cpu', cuda: false };
type Facts = [machine: MachineFacts, libtorch: { version: string; cuda: boolean }, runtime?: RuntimeFacts];
const codes = ([machine, libtorch, runtime]: Facts) =>
  advise(machine, libtorch, runtime, { installed: false, projectDir: '/p' }).map(({ code }) => code);

describe('advise', () => {
  it('has none where nothing would be faster', () => {
    expect(codes([machine, newest, { threads: 4, cudaDevices: 0 }])).toEqual([]);
    expect(
      codes([
        { ...machine, gpus: [gpu] },
        { version: '2.13.0', cuda: true },
        { threads: 4, cudaDevices: 1 },
      ]),
    ).toEqual([]);
  });

  it('ignores an old processor where there are GPUs', () => {
    const old = { ...machine, gpus: [gpu, gpu], cpu: { ...machine.cpu, vector: ['AVX'] } };
    expect(codes([old, { version: '2.13.0', cuda: true }, { threads: 4, cudaDevices: 2 }])).toEqual([]);
  });

  it.each<[string, Facts]>([
    ['OLD_LIBTORCH', [machine, { version: '1.13.0', cuda: false }, { threads: 4, cudaDevices: 0 }]],
    ['GPU_UNUSED', [{ ...machine, gpus: [gpu] }, newest, { threads: 4, cudaDevices: 0 }]],
    [
      'GPU_UNUSED',
      [
        { ...machine, gpus: [gpu] },
        { version: '2.13.0', cuda: true },
        { threads: 4, cudaDevices: 0 },
      ],
    ],
    ['FEW_THREADS', [machine, newest, { threads: 1, cudaDevices: 0 }]],
    ['MANY_THREADS', [machine, newest, { threads: 16, cudaDevices: 0 }]],
    ['LITTLE_MEMORY', [{ ...machine, memory: { totalBytes: 2 ** 31, freeBytes: 1 } }, newest, undefined]],
    ['OLD_CPU', [{ ...machine, cpu: { ...machine.cpu, vector: ['AVX'] } }, newest, undefined]],
  ])('%s', (code, args) => {
    expect(codes(args)).toEqual([code]);
  });
});

it('gathers this machine', () => {
  const facts = gatherMachineFacts(thisHost());
  expect(facts.cpu.cores).toBeGreaterThanOrEqual(1);
  expect(facts.cpu.cores).toBeLessThanOrEqual(facts.cpu.threads);
  expect(facts.memory.totalBytes).toBeGreaterThan(facts.memory.freeBytes);
});
