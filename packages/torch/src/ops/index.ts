/** All operators: those generated from libtorch's schemas and the few written by hand. */
export * from './generated.js';
export * from './helpers.js';
