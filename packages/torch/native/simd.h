// Vectors of W floats for kernels that are compiled for several instruction sets: the compiler's own vector types, so
// that one source serves AVX-512 (W = 16), AVX2 (W = 8) and everything else (W = 4, SSE or NEON).
//
// A kernel's body is a template over W whose functions are all PD_INLINE: they take on the instruction set of the
// function that they are inlined into (PD_AVX512, PD_AVX2 or neither). `simd_level` says which one to call.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#define PD_INLINE inline __attribute__((always_inline))

#if defined(__x86_64__)
#define PD_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")))
#define PD_AVX2 __attribute__((target("avx2,fma")))
#endif

#if defined(__GNUC__) && !defined(__clang__)
// Vectors wider than the baseline's registers never cross a call: everything here is inlined.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace pd {

enum class SimdLevel { Baseline, Avx2, Avx512 };

// What this processor has, within what libtorch may use (ATEN_CPU_CAPABILITY).
SimdLevel simd_level();

namespace simd {

template <int W>
struct Vectors {
  typedef float F __attribute__((vector_size(W * 4)));
  typedef int32_t I __attribute__((vector_size(W * 4)));
  typedef uint32_t U __attribute__((vector_size(W * 4)));
  typedef uint16_t H __attribute__((vector_size(W * 2)));
};
template <int W>
using F = typename Vectors<W>::F;
template <int W>
using I = typename Vectors<W>::I;
template <int W>
using U = typename Vectors<W>::U;
template <int W>
using H = typename Vectors<W>::H;

template <class To, class From>
PD_INLINE To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "");
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <int W>
PD_INLINE F<W> all(float value) {
  return F<W>{} + value;
}

template <int W>
PD_INLINE F<W> from_bfloat16(H<W> half) {
  return bits<F<W>>(__builtin_convertvector(half, U<W>) << 16);
}

// Rounds to nearest, ties to even; NaN stays NaN.
template <int W>
PD_INLINE H<W> to_bfloat16(F<W> value) {
  const U<W> u = bits<U<W>>(value);
  const U<W> rounded = u + 0x7fffu + ((u >> 16) & 1u);
  const U<W> kept = value == value ? rounded : U<W>{} + 0x7fc00000u;
  return __builtin_convertvector(kept >> 16, H<W>);
}

template <int W>
PD_INLINE F<W> load(const float* p) {
  F<W> value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}
template <int W>
PD_INLINE F<W> load(const c10::BFloat16* p) {
  H<W> half;
  std::memcpy(&half, p, sizeof(half));
  return from_bfloat16<W>(half);
}
template <int W>
PD_INLINE void store(float* p, F<W> value) {
  std::memcpy(p, &value, sizeof(value));
}
template <int W>
PD_INLINE void store(c10::BFloat16* p, F<W> value) {
  const H<W> half = to_bfloat16<W>(value);
  std::memcpy(p, &half, sizeof(half));
}

// The first `count` < W elements; the others are 0 and are not written.
template <int W, class T>
PD_INLINE F<W> load(const T* p, int64_t count) {
  T buffer[W] = {};
  std::memcpy(static_cast<void*>(buffer), p, static_cast<size_t>(count) * sizeof(T));
  return load<W>(buffer);
}
template <int W, class T>
PD_INLINE void store(T* p, F<W> value, int64_t count) {
  T buffer[W];
  store<W>(buffer, value);
  std::memcpy(static_cast<void*>(p), buffer, static_cast<size_t>(count) * sizeof(T));
}

template <int W>
PD_INLINE float sum(F<W> value) {
  float lanes[W];
  store<W>(lanes, value);
  float total = 0;
  for (int i = 0; i < W; ++i) total += lanes[i];
  return total;
}

// e^x to about 2 units in the last place; underflows to the smallest normal numbers, overflows to about 2^127.
template <int W>
PD_INLINE F<W> exp(F<W> x) {
  x = x < -87.0f ? all<W>(-87.0f) : x;
  x = x > 88.0f ? all<W>(88.0f) : x;
  const float shift = 12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer, which stands in the low bits
  const F<W> shifted = x * 1.44269504088896341f + shift;
  const F<W> n = shifted - shift;
  const F<W> r = (x - n * 0.693145751953125f) - n * 1.428606765330187e-6f;
  F<W> p = all<W>(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  const I<W> exponent = bits<I<W>>(shifted) - bits<int32_t>(shift);
  return bits<F<W>>(bits<I<W>>(p) + (exponent << 23));
}

template <int W>
PD_INLINE F<W> sigmoid(F<W> x) {
  return 1.0f / (1.0f + exp<W>(-x));
}

}  // namespace simd
}  // namespace pd
