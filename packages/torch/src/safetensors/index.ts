export { encodeHeader, type TensorLayout } from './encode-header.js';
export { SafetensorsError, type SafetensorsErrorCode } from './error.js';
export {
  headerLength,
  MAX_HEADER_BYTES,
  parseHeader,
  type SafetensorsDType,
  type SafetensorsHeader,
  type TensorEntry,
} from './header.js';
export { readSafetensors, SafetensorsFile, type TensorInfo } from './reader.js';
export { writeSafetensors } from './writer.js';
