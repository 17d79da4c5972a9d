/**
 * Loops over pixels, for WebAssembly with vector instructions. AssemblyScript, not TypeScript; `node scripts/build-wasm.mjs`
 * makes src/data/pixels-wasm.ts of it. All functions touch up to 16 bytes behind their areas.
 *
 * Resampling: a weight of 22 fractional bits is split as high · 2¹¹ + low, so that both parts fit into 16 bits and one
 * instruction multiplies eight of them and adds neighbours. All sums are exact: the result is that of 32-bit arithmetic.
 * Weights are read two at a time; where their number is odd, the next one must be 0, and a row behind the last is touched.
 */
const PRECISION_BITS: i32 = 22;
const LOW_BITS: i32 = 11;

/** Takes the first two pixels of C channels apart into pairs of 16-bit numbers, one pair per channel; −1 gives 0. */
// @ts-expect-error: decorator
@inline
function pairMask(channels: i32): v128 {
  if (channels == 1) return i8x16(0, -1, 1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1);
  if (channels == 3) return i8x16(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1);
  return i8x16(0, -1, 4, -1, 1, -1, 5, -1, 2, -1, 6, -1, 3, -1, 7, -1);
}

/** Rounds four sums; not yet cut off at 0 and 255. */
// @ts-expect-error: decorator
@inline
function rounded(high: v128, low: v128): v128 {
  const half = i32x4.splat(1 << (PRECISION_BITS - 1));
  return i32x4.shr_s(i32x4.add(i32x4.add(i32x4.shl(high, LOW_BITS), low), half), PRECISION_BITS);
}

/** Rows of pixels to rows of `width` pixels. C is 1, 3 or 4. */
export function horizontal(
  source: usize, sourceStride: i32, rows: i32,
  target: usize, width: i32, channels: i32,
  first: usize, taps: usize, high: usize, low: usize, stride: i32,
): void {
  const mask = pairMask(channels);
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < width; x++) {
      let at = source + load<i32>(first + 4 * x) * channels;
      let w = 2 * x * stride;
      const end = w + 2 * load<i32>(taps + 4 * x);
      let sumHigh = i32x4.splat(0);
      let sumLow = i32x4.splat(0);
      for (; w < end; w += 4) {
        const pixels = v128.swizzle(v128.load64_zero(at), mask);
        sumHigh = i32x4.add(sumHigh, i32x4.dot_i16x8_s(pixels, v128.load32_splat(high + w)));
        sumLow = i32x4.add(sumLow, i32x4.dot_i16x8_s(pixels, v128.load32_splat(low + w)));
        at += 2 * channels;
      }
      const words = i16x8.narrow_i32x4_s(rounded(sumHigh, sumLow), i32x4.splat(0));
      // Four bytes; those beyond the pixel are replaced by the next one.
      v128.store32_lane(target, i8x16.narrow_i16x8_u(words, words), 0);
      target += channels;
    }
    source += sourceStride;
  }
}

/** Rows of `rowLength` bytes to `height` rows. */
export function vertical(
  source: usize, sourceStride: i32, rowLength: i32,
  target: usize, height: i32,
  first: usize, taps: usize, high: usize, low: usize, stride: i32,
): void {
  for (let y = 0; y < height; y++) {
    const top = source + load<i32>(first + 4 * y) * sourceStride;
    const begin = 2 * y * stride;
    const end = begin + 2 * load<i32>(taps + 4 * y);
    // Eight bytes at a time; those beyond the row are replaced by the next one.
    for (let x = 0; x < rowLength; x += 8) {
      let at = top + x;
      let high0 = i32x4.splat(0);
      let low0 = i32x4.splat(0);
      let high1 = i32x4.splat(0);
      let low1 = i32x4.splat(0);
      for (let w = begin; w < end; w += 4) {
        const a = v128.load_ext<u8>(at);
        const b = v128.load_ext<u8>(at + sourceStride);
        const left = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        const right = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
        const highs = v128.load32_splat(high + w);
        const lows = v128.load32_splat(low + w);
        high0 = i32x4.add(high0, i32x4.dot_i16x8_s(left, highs));
        low0 = i32x4.add(low0, i32x4.dot_i16x8_s(left, lows));
        high1 = i32x4.add(high1, i32x4.dot_i16x8_s(right, highs));
        low1 = i32x4.add(low1, i32x4.dot_i16x8_s(right, lows));
        at += 2 * sourceStride;
      }
      const words = i16x8.narrow_i32x4_s(rounded(high0, low0), rounded(high1, low1));
      v128.store64_lane(target + x, i8x16.narrow_i16x8_u(words, words), 0);
    }
    target += rowLength;
  }
}

/**
 * Undoes the filters of a PNG's rows (PNG specification, section 9), each of which begins with the number of its filter.
 * @param step bytes per pixel, at most 4
 * @param zeros room for a row, which stands for the one above the first
 * @returns whether all filters are known
 */
export function unfilter(
  rows: usize, pixels: usize, height: i32, stride: i32, step: i32, zeros: usize,
): bool {
  memory.fill(zeros, 0, stride + 16);
  let above = zeros;
  for (let y = 0; y < height; y++) {
    const filter = load<u8>(rows);
    rows++;
    // Four bytes at a time; those beyond a pixel are replaced by the next one.
    if (filter == 0) {
      memory.copy(pixels, rows, stride);
    } else if (filter == 1) {
      let left = i8x16.splat(0);
      for (let x = 0; x < stride; x += step) {
        left = i8x16.add(v128.load32_zero(rows + x), left);
        v128.store32_lane(pixels + x, left, 0);
      }
    } else if (filter == 2) {
      for (let x = 0; x < stride; x += 16)
        v128.store(pixels + x, i8x16.add(v128.load(rows + x), v128.load(above + x)));
    } else if (filter == 3) {
      let left = i16x8.splat(0);
      for (let x = 0; x < stride; x += step) {
        const up = i16x8.extend_low_i8x16_u(v128.load32_zero(above + x));
        const mean = i16x8.shr_u(i16x8.add(left, up), 1);
        const value = i8x16.add(v128.load32_zero(rows + x), i8x16.narrow_i16x8_u(mean, mean));
        v128.store32_lane(pixels + x, value, 0);
        left = i16x8.extend_low_i8x16_u(value);
      }
    } else if (filter == 4) {
      let left = i16x8.splat(0);
      let upLeft = i16x8.splat(0);
      for (let x = 0; x < stride; x += step) {
        const up = i16x8.extend_low_i8x16_u(v128.load32_zero(above + x));
        // The neighbour that is nearest to left + up − upLeft.
        const toLeft = i16x8.sub(up, upLeft);
        const toUp = i16x8.sub(left, upLeft);
        const a = i16x8.abs(toLeft);
        const b = i16x8.abs(toUp);
        const c = i16x8.abs(i16x8.add(toLeft, toUp));
        const isLeft = v128.and(i16x8.le_s(a, b), i16x8.le_s(a, c));
        const nearest = v128.bitselect(left, v128.bitselect(up, upLeft, i16x8.le_s(b, c)), isLeft);
        const value = i8x16.add(v128.load32_zero(rows + x), i8x16.narrow_i16x8_u(nearest, nearest));
        v128.store32_lane(pixels + x, value, 0);
        left = i16x8.extend_low_i8x16_u(value);
        upLeft = up;
      }
    } else {
      return false;
    }
    above = pixels;
    pixels += stride;
    rows += stride;
  }
  return true;
}
