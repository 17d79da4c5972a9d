#include "group_norm_kernel.h"

#include <algorithm>

#include "simd.h"

#define PD_UNROLL _Pragma("GCC unroll 8")

namespace pd {

namespace {

using namespace simd;

// The slope of the activation at z, and its value.
template <int W, bool Silu>
PD_INLINE F<W> activate(F<W> z) {
  if (!Silu) return z;
  return z * sigmoid<W>(z);
}
template <int W, bool Silu>
PD_INLINE F<W> through(F<W> grad, F<W> z) {
  if (!Silu) return grad;
  const F<W> s = sigmoid<W>(z);
  return grad * (s + z * s * (1.0f - s));
}

// A coefficient for the W elements at i: one per element where channels lie side by side, else one for all.
template <int W, bool Each>
PD_INLINE F<W> coefficient(const float* p, int64_t i) {
  return Each ? load<W>(p + i) : all<W>(*p);
}
template <int W, bool Each>
PD_INLINE F<W> coefficient(const float* p, int64_t i, int64_t count) {
  return Each ? load<W>(p + i, count) : all<W>(*p);
}

template <int W, class T, bool Each, bool Silu>
PD_INLINE void forward_run(const T* x, T* y, const float* scale, const float* offset, int64_t length) {
  int64_t i = 0;
  for (; i + W <= length; i += W) {
    const F<W> z = load<W>(x + i) * coefficient<W, Each>(scale, i) + coefficient<W, Each>(offset, i);
    store<W>(y + i, activate<W, Silu>(z));
  }
  if (const int64_t rest = length - i) {
    const F<W> z =
        load<W>(x + i, rest) * coefficient<W, Each>(scale, i, rest) + coefficient<W, Each>(offset, i, rest);
    store<W>(y + i, activate<W, Silu>(z), rest);
  }
}

// `dz` may be `out`.
template <int W, class T, bool Each>
PD_INLINE void backward_run(const T* x, const T* dz, T* out, const float* scale, const float* slope,
                            const float* constant, int64_t length) {
  int64_t i = 0;
  for (; i + W <= length; i += W) {
    store<W>(out + i, load<W>(dz + i) * coefficient<W, Each>(scale, i) +
                          (load<W>(x + i) * coefficient<W, Each>(slope, i) + coefficient<W, Each>(constant, i)));
  }
  if (const int64_t rest = length - i) {
    const F<W> value =
        load<W>(dz + i, rest) * coefficient<W, Each>(scale, i, rest) +
        (load<W>(x + i, rest) * coefficient<W, Each>(slope, i, rest) + coefficient<W, Each>(constant, i, rest));
    store<W>(out + i, value, rest);
  }
}

// ---- channels-last: sums over rows, B vectors of channels at a time ----

template <int W, int B, class T>
PD_INLINE void moments_columns(const T* x, int64_t rows, int64_t stride, float* means, float* squares) {
  F<W> pivot[B], sums[B], sums2[B];
  PD_UNROLL for (int b = 0; b < B; ++b) {
    pivot[b] = load<W>(x + b * W);
    sums[b] = F<W>{};
    sums2[b] = F<W>{};
  }
  for (int64_t r = 0; r < rows; ++r, x += stride) {
    PD_UNROLL for (int b = 0; b < B; ++b) {
      const F<W> d = load<W>(x + b * W) - pivot[b];
      sums[b] += d;
      sums2[b] += d * d;
    }
  }
  const float share = 1.0f / static_cast<float>(rows);
  PD_UNROLL for (int b = 0; b < B; ++b) {
    const F<W> mean = sums[b] * share;
    store<W>(means + b * W, pivot[b] + mean);
    store<W>(squares + b * W, sums2[b] - mean * sums[b]);
  }
}

template <int W, int B, class T, bool Silu>
PD_INLINE void sums_columns(const T* x, const T* grad, T* out, int64_t rows, int64_t stride, const float* scale,
                            const float* offset, const float* pivot, float* first, float* second) {
  F<W> factors[B], offsets[B], pivots[B], sums[B], products[B];
  PD_UNROLL for (int b = 0; b < B; ++b) {
    factors[b] = load<W>(scale + b * W);
    offsets[b] = load<W>(offset + b * W);
    pivots[b] = load<W>(pivot + b * W);
    sums[b] = F<W>{};
    products[b] = F<W>{};
  }
  for (int64_t r = 0; r < rows; ++r, x += stride, grad += stride, out += stride) {
    PD_UNROLL for (int b = 0; b < B; ++b) {
      const F<W> v = load<W>(x + b * W);
      const F<W> dz = through<W, Silu>(load<W>(grad + b * W), v * factors[b] + offsets[b]);
      if (Silu) store<W>(out + b * W, dz);
      sums[b] += dz;
      products[b] += dz * (v - pivots[b]);
    }
  }
  PD_UNROLL for (int b = 0; b < B; ++b) {
    store<W>(first + b * W, sums[b]);
    store<W>(second + b * W, products[b]);
  }
}

// The last channels, fewer than W, are copied to where a whole vector may be read.
template <int W, class T>
PD_INLINE void gather_columns(const T* x, int64_t rows, int64_t stride, int64_t count, T* copy) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < W; ++i) copy[r * W + i] = i < count ? x[r * stride + i] : T(0);
  }
}
template <int W>
PD_INLINE void gather_floats(const float* from, int64_t count, float* copy) {
  for (int64_t i = 0; i < W; ++i) copy[i] = i < count ? from[i] : 0.0f;
}

template <int W, class T>
PD_INLINE void moments_rows(const T* x, int64_t rows, int64_t channels, float* means, float* squares) {
  constexpr int B = 4;
  int64_t c = 0;
  for (; c + B * W <= channels; c += B * W) moments_columns<W, B, T>(x + c, rows, channels, means + c, squares + c);
  for (; c + W <= channels; c += W) moments_columns<W, 1, T>(x + c, rows, channels, means + c, squares + c);
  if (const int64_t rest = channels - c) {
    T copy[GroupNormJob::kPartPositions * W] = {};
    float results[2 * W];
    gather_columns<W, T>(x + c, rows, channels, rest, copy);
    moments_columns<W, 1, T>(copy, rows, W, results, results + W);
    std::memcpy(means + c, results, rest * sizeof(float));
    std::memcpy(squares + c, results + W, rest * sizeof(float));
  }
}

template <int W, class T, bool Silu>
PD_INLINE void sums_rows(const T* x, const T* grad, T* out, int64_t rows, int64_t channels, const float* scale,
                         const float* offset, const float* pivot, float* first, float* second) {
  constexpr int B = 4;
  int64_t c = 0;
  for (; c + B * W <= channels; c += B * W) {
    sums_columns<W, B, T, Silu>(x + c, grad + c, out + c, rows, channels, scale + c, offset + c, pivot + c,
                                first + c, second + c);
  }
  for (; c + W <= channels; c += W) {
    sums_columns<W, 1, T, Silu>(x + c, grad + c, out + c, rows, channels, scale + c, offset + c, pivot + c,
                                first + c, second + c);
  }
  if (const int64_t rest = channels - c) {
    T values[GroupNormJob::kPartPositions * W] = {}, grads[GroupNormJob::kPartPositions * W] = {};
    float coefficients[3 * W], results[2 * W];
    gather_columns<W, T>(x + c, rows, channels, rest, values);
    gather_columns<W, T>(grad + c, rows, channels, rest, grads);
    gather_floats<W>(scale + c, rest, coefficients);
    gather_floats<W>(offset + c, rest, coefficients + W);
    gather_floats<W>(pivot + c, rest, coefficients + 2 * W);
    sums_columns<W, 1, T, Silu>(values, grads, grads, rows, W, coefficients, coefficients + W, coefficients + 2 * W,
                                results, results + W);
    for (int64_t r = 0; Silu && r < rows; ++r) std::copy_n(grads + r * W, rest, out + c + r * channels);
    std::memcpy(first + c, results, rest * sizeof(float));
    std::memcpy(second + c, results + W, rest * sizeof(float));
  }
}

// ---- contiguous: sums along one channel ----

template <int W, class T>
PD_INLINE void moments_run(const T* x, int64_t length, float* mean_out, float* squares_out) {
  constexpr int B = 4;
  const F<W> pivot = all<W>(static_cast<float>(x[0]));
  F<W> sums[B] = {}, sums2[B] = {};
  int64_t i = 0;
  for (; i + B * W <= length; i += B * W) {
    PD_UNROLL for (int b = 0; b < B; ++b) {
      const F<W> d = load<W>(x + i + b * W) - pivot;
      sums[b] += d;
      sums2[b] += d * d;
    }
  }
  float total = sum<W>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  float total2 = sum<W>((sums2[0] + sums2[1]) + (sums2[2] + sums2[3]));
  for (; i < length; ++i) {
    const float d = static_cast<float>(x[i]) - static_cast<float>(x[0]);
    total += d;
    total2 += d * d;
  }
  const float mean = total / static_cast<float>(length);
  *mean_out = static_cast<float>(x[0]) + mean;
  *squares_out = total2 - mean * total;
}

template <int W, class T, bool Silu>
PD_INLINE void sums_run(const T* x, const T* grad, T* out, int64_t length, float scale, float offset, float pivot,
                        float* first, float* second) {
  F<W> sums = {}, products = {};
  int64_t i = 0;
  for (; i + W <= length; i += W) {
    const F<W> v = load<W>(x + i);
    const F<W> dz = through<W, Silu>(load<W>(grad + i), v * scale + offset);
    if (Silu) store<W>(out + i, dz);
    sums += dz;
    products += dz * (v - pivot);
  }
  if (const int64_t rest = length - i) {  // the gradient is 0 beyond the end
    const F<W> v = load<W>(x + i, rest);
    const F<W> dz = through<W, Silu>(load<W>(grad + i, rest), v * scale + offset);
    if (Silu) store<W>(out + i, dz, rest);
    sums += dz;
    products += dz * (v - pivot);
  }
  *first = sum<W>(sums);
  *second = sum<W>(products);
}

// ---- one item ----

template <int W, class T, bool Silu>
PD_INLINE void part_item(const GroupNormJob& job, GroupNormPhase phase, int64_t sample, int64_t part) {
  const int64_t channels = job.channels;
  const int64_t rows = job.part_positions(part);
  const int64_t at = (sample * job.positions + part * GroupNormJob::kPartPositions) * channels;
  const int64_t coefficients = sample * channels;
  const T* x = static_cast<const T*>(job.x) + at;
  const T* grad = static_cast<const T*>(job.grad) + at;
  T* out = static_cast<T*>(job.out) + at;
  float* partial = job.partial + (sample * job.parts() + part) * 2 * channels;
  switch (phase) {
    case GroupNormPhase::Moments: moments_rows<W, T>(x, rows, channels, partial, partial + channels); break;
    case GroupNormPhase::Forward:
      for (int64_t r = 0; r < rows; ++r) {
        forward_run<W, T, true, Silu>(x + r * channels, out + r * channels, job.scale + coefficients,
                                      job.offset + coefficients, channels);
      }
      break;
    case GroupNormPhase::Sums:
      sums_rows<W, T, Silu>(x, grad, out, rows, channels, job.scale + coefficients, job.offset + coefficients,
                            job.pivot + coefficients, partial, partial + channels);
      break;
    case GroupNormPhase::Backward:
      for (int64_t r = 0; r < rows; ++r) {
        backward_run<W, T, true>(x + r * channels, (Silu ? out : grad) + r * channels, out + r * channels,
                                 job.scale + coefficients, job.slope + coefficients, job.constant + coefficients,
                                 channels);
      }
      break;
  }
}

template <int W, class T, bool Silu>
PD_INLINE void channel_item(const GroupNormJob& job, GroupNormPhase phase, int64_t sample, int64_t channel) {
  const int64_t coefficient = sample * job.channels + channel;
  const int64_t at = coefficient * job.positions;
  const T* x = static_cast<const T*>(job.x) + at;
  const T* grad = static_cast<const T*>(job.grad) + at;
  T* out = static_cast<T*>(job.out) + at;
  float* partial = job.partial + sample * 2 * job.channels + channel;
  switch (phase) {
    case GroupNormPhase::Moments: moments_run<W, T>(x, job.positions, partial, partial + job.channels); break;
    case GroupNormPhase::Forward:
      forward_run<W, T, false, Silu>(x, out, job.scale + coefficient, job.offset + coefficient, job.positions);
      break;
    case GroupNormPhase::Sums:
      sums_run<W, T, Silu>(x, grad, out, job.positions, job.scale[coefficient], job.offset[coefficient],
                           job.pivot[coefficient], partial, partial + job.channels);
      break;
    case GroupNormPhase::Backward:
      backward_run<W, T, false>(x, Silu ? out : grad, out, job.scale + coefficient, job.slope + coefficient,
                                job.constant + coefficient, job.positions);
      break;
  }
}

template <int W, class T, bool Silu>
PD_INLINE void items(const GroupNormJob& job, GroupNormPhase phase, int64_t begin, int64_t end) {
  const int64_t per_sample = job.items_per_sample();
  for (int64_t item = begin; item < end; ++item) {
    if (job.channels_last) {
      part_item<W, T, Silu>(job, phase, item / per_sample, item % per_sample);
    } else {
      channel_item<W, T, Silu>(job, phase, item / per_sample, item % per_sample);
    }
  }
}

#define PD_ITEMS(target, name, W)                                                            \
  template <class T, bool Silu>                                                              \
  target void name(const GroupNormJob& job, GroupNormPhase phase, int64_t begin, int64_t end) { \
    items<W, T, Silu>(job, phase, begin, end);                                               \
  }
PD_ITEMS(, items_baseline, 4)
#if defined(PD_AVX512)
PD_ITEMS(PD_AVX2, items_avx2, 8)
PD_ITEMS(PD_AVX512, items_avx512, 16)
#endif

template <class T, bool Silu>
void dispatch(const GroupNormJob& job, GroupNormPhase phase, int64_t begin, int64_t end) {
  switch (simd_level()) {
#if defined(PD_AVX512)
    case SimdLevel::Avx512: return items_avx512<T, Silu>(job, phase, begin, end);
    case SimdLevel::Avx2: return items_avx2<T, Silu>(job, phase, begin, end);
#endif
    default: return items_baseline<T, Silu>(job, phase, begin, end);
  }
}

}  // namespace

void run_group_norm(const GroupNormJob& job, GroupNormPhase phase, int64_t begin, int64_t end) {
  if (job.bfloat16) {
    if (job.silu) return dispatch<c10::BFloat16, true>(job, phase, begin, end);
    return dispatch<c10::BFloat16, false>(job, phase, begin, end);
  }
  if (job.silu) return dispatch<float, true>(job, phase, begin, end);
  return dispatch<float, false>(job, phase, begin, end);
}

}  // namespace pd
