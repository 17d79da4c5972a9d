/** All operators: those generated from libtorch's schemas, the few written by hand, and those with kernels of ours. */
export * from './generated.js';
export * from './helpers.js';
export * from './kernels.js';
