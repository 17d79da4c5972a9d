/**
 * libtorch for Node: tensors, operators, autograd, modules, optimisers, safetensors.
 *
 * The native part is loaded at first use; without it this package can be imported but not used, and the error
 * says which command builds it.
 */
export {
  type AtomicFileData,
  FileWriteError,
  removeLeftovers,
  temporaryPath,
  writeFileAtomic,
} from './atomic-file.js';
export { enableGrad, inferenceMode, isGradEnabled, noGrad, setGradEnabled } from './autograd.js';
export * from './distributed.js';
export {
  type Device,
  type DType,
  isFloatingPoint,
  type MemoryFormat,
  type Reduction,
  type Scalar,
  type TypedArray,
  typedView,
} from './dtype.js';
export { type ArgumentShape, TorchError, type TorchErrorCode } from './errors.js';
export { type DeviceGraph, GraphPool, hasGraphs } from './graphs.js';
export { makeFolder } from './make-folder.js';
export { hasOp } from './native.js';
export * from './nn/index.js';
export * from './ops/index.js';
export * from './optim/index.js';
export { Generator, manualSeed } from './random.js';
export {
  type RecordedArgument,
  type RecordedCall,
  type RecordedTensor,
  type Recording,
  recordOperators,
  tensorId,
} from './record.js';
export * from './runtime.js';
export * from './safetensors/index.js';
export { keep, liveTensors, nativeBytes, scope, unscoped } from './scope.js';
export {
  type BackwardOptions,
  type NestedNumbers,
  Tensor,
  type TensorOptions,
  type ToOptions,
  tensor,
} from './tensor.js';
