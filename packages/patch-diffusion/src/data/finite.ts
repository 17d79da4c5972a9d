/** Whether numbers in raw bytes are finite: neither NaN nor infinite, in which all bits of the exponent are set. */
export function allFinite(bytes: Uint8Array, dtype: string): boolean {
  const isHalf = dtype === 'float16';
  const { buffer, byteOffset, byteLength } = bytes;
  const words = isHalf
    ? new Uint16Array(buffer, byteOffset, byteLength / 2)
    : new Uint32Array(buffer, byteOffset, byteLength / 4);
  const exponent = isHalf ? 0x7c00 : 0x7f800000;
  for (let i = 0; i < words.length; i++) if ((words[i] & exponent) === exponent) return false;
  return true;
}
