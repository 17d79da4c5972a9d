export { SafetensorsError, type SafetensorsErrorCode } from './error.js';
export {
  encodeHeader,
  headerLength,
  MAX_HEADER_BYTES,
  parseHeader,
  type SafetensorsDType,
  type SafetensorsHeader,
  type TensorEntry,
  type TensorLayout,
} from './header.js';
export { readSafetensors, SafetensorsFile, type TensorInfo } from './reader.js';
export { writeSafetensors } from './writer.js';
