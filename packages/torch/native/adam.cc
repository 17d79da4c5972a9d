// Adam and AdamW over all parameters in one pass, with the arithmetic of libtorch's fused kernel, and moving averages of
// the parameters that follow in the same pass. Float32 on a CPU.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "layout.h"
#include "parallel.h"
#include "simd.h"

namespace pd {

namespace {

using at::Tensor;
using namespace simd;

constexpr int64_t kRun = 8192;
constexpr size_t kMaxAverages = 4;

// The same stretch of memory of each tensor. `grad` is null where there is none: then only the averages move.
struct Run {
  float* param;
  const float* grad;
  float* mean;
  float* square;
  std::array<float*, kMaxAverages> averages;
  int64_t count;
};

struct Rates {
  float rest1;       // 1 − β₁
  float beta2;
  float rest2;       // 1 − β₂
  float step;        // learning rate / (1 − β₁ᵗ)
  float correction;  // √(1 − β₂ᵗ)
  float eps;
  float penalty;     // L2, added to the gradient
  float shrink;      // on the parameter
  size_t averages;   // how many there are
  std::array<float, kMaxAverages> follow;  // share of the parameter in each average
};

template <int W>
PD_INLINE F<W> root(F<W> value) {
  for (int i = 0; i < W; ++i) value[i] = __builtin_sqrtf(value[i]);
  return value;
}

// Exact at both ends, as libtorch's lerp.
template <int W>
PD_INLINE F<W> mix(F<W> from, F<W> to, float share) {
  return share < 0.5f ? from + (to - from) * share : to - (to - from) * (1.0f - share);
}

template <int W>
PD_INLINE void update(const Run& run, int64_t i, const Rates& rates) {
  F<W> param = load<W>(run.param + i);
  if (run.grad) {
    F<W> grad = load<W>(run.grad + i);
    if (rates.penalty != 0) grad += param * rates.penalty;
    param *= rates.shrink;
    const F<W> mean = mix<W>(load<W>(run.mean + i), grad, rates.rest1);
    const F<W> square = load<W>(run.square + i) * rates.beta2 + grad * grad * rates.rest2;
    param -= mean * rates.step / (root<W>(square) / rates.correction + rates.eps);
    store<W>(run.mean + i, mean);
    store<W>(run.square + i, square);
    store<W>(run.param + i, param);
  }
  for (size_t k = 0; k < rates.averages; ++k) {
    float* average = run.averages[k] + i;
    store<W>(average, mix<W>(load<W>(average), param, rates.follow[k]));
  }
}

template <int W>
PD_INLINE void update_run(const Run& run, const Rates& rates) {
  int64_t i = 0;
  for (; i + W <= run.count; i += W) update<W>(run, i, rates);
  for (; i < run.count; ++i) update<1>(run, i, rates);
}

void update_baseline(const Run& run, const Rates& rates) { update_run<4>(run, rates); }
#if defined(PD_AVX512)
PD_AVX2 void update_avx2(const Run& run, const Rates& rates) { update_run<8>(run, rates); }
PD_AVX512 void update_avx512(const Run& run, const Rates& rates) { update_run<16>(run, rates); }
#endif

void update_any(const Run& run, const Rates& rates) {
  switch (simd_level()) {
#if defined(PD_AVX512)
    case SimdLevel::Avx512: return update_avx512(run, rates);
    case SimdLevel::Avx2: return update_avx2(run, rates);
#endif
    default: return update_baseline(run, rates);
  }
}

void adam_update(at::TensorList params, at::TensorList means, at::TensorList squares, at::TensorList averages,
                 at::ArrayRef<double> follow, int64_t step, double lr, double beta1, double beta2, double eps, double weight_decay,
                 bool decoupled) {
  at::NoGradGuard no_grad;
  TORCH_CHECK(follow.size() <= kMaxAverages, "adam_update: ", follow.size(), " averages; at most ", kMaxAverages);
  TORCH_CHECK(averages.size() == params.size() * follow.size(), "adam_update: ", averages.size(), " tensors of ",
              follow.size(), " averages for ", params.size(), " parameters");
  std::vector<Tensor> grads;  // holds copies
  std::vector<Run> runs;
  for (size_t k = 0; k < params.size(); ++k) {
    const Tensor& param = params[k];
    TORCH_CHECK(param.device().is_cpu() && param.scalar_type() == at::kFloat && param.is_non_overlapping_and_dense(),
                "adam_update: parameters must be float32 on the CPU, without gaps");
    Tensor grad = gradient_like(param);
    lay_out_like(means[k], param);
    lay_out_like(squares[k], param);
    std::array<float*, kMaxAverages> own{};
    for (size_t j = 0; j < follow.size(); ++j) {
      const Tensor& average = averages[j * params.size() + k];
      TORCH_CHECK(average.sizes() == param.sizes() && average.scalar_type() == at::kFloat,
                  "adam_update: average ", k, " does not fit its parameter");
      lay_out_like(average, param);
      own[j] = average.data_ptr<float>();
    }
    const Run whole{param.data_ptr<float>(),    grad.defined() ? grad.data_ptr<float>() : nullptr,
                    means[k].data_ptr<float>(), squares[k].data_ptr<float>(),
                    own, param.numel()};
    for (int64_t at = 0; at < whole.count; at += kRun) {
      std::array<float*, kMaxAverages> shifted{};
      for (size_t j = 0; j < follow.size(); ++j) shifted[j] = own[j] + at;
      runs.push_back({whole.param + at, whole.grad ? whole.grad + at : nullptr, whole.mean + at, whole.square + at,
                      shifted, std::min(kRun, whole.count - at)});
    }
    grads.push_back(std::move(grad));
  }
  const double t = static_cast<double>(step);
  std::array<float, kMaxAverages> shares{};
  std::copy(follow.begin(), follow.end(), shares.begin());
  const Rates rates{static_cast<float>(1 - beta1),
                    static_cast<float>(beta2),
                    static_cast<float>(1 - beta2),
                    static_cast<float>(lr / (1 - std::pow(beta1, t))),
                    static_cast<float>(std::sqrt(1 - std::pow(beta2, t))),
                    static_cast<float>(eps),
                    static_cast<float>(decoupled ? 0 : weight_decay),
                    static_cast<float>(decoupled ? 1 - lr * weight_decay : 1),
                    follow.size(),
                    shares};
  parallel_for(static_cast<int64_t>(runs.size()), 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) update_any(runs[i], rates);
  });
}

TORCH_LIBRARY_FRAGMENT(patch_diffusion, library) {
  library.def(
      "adam_update(Tensor[] params, Tensor[] means, Tensor[] squares, Tensor[] averages, float[] follow, int step, "
      "float lr, float beta1, float beta2, float eps, float weight_decay, bool decoupled) -> ()",
      adam_update);
}

}  // namespace

}  // namespace pd
