import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['packages/*/test/**/*.test.ts', 'benchmarks/test/**/*.test.ts'],
    setupFiles: ['vitest.setup.ts'],
    // The native addon is one per process; processes also keep libtorch's thread pools apart.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // A busy machine is slow, not wrong.
    expect: { poll: { timeout: 240_000 } },
    env: { OMP_NUM_THREADS: '1' },
  },
});
