// The check of all gradients before an update: their norm in one pass over memory in whatever order it is, and where
// that is not finite, NaN and infinities replaced. Float32 on a CPU has a kernel (libtorch's norm copies what is not
// contiguous); elsewhere it is made of libtorch's operators.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "parallel.h"
#include "simd.h"

namespace pd {

namespace {

using at::Tensor;
using namespace simd;

constexpr int64_t kRun = 8192;  // elements whose squares are summed in float32; the sums are added up in float64

struct Run {
  const float* data;
  int64_t count;
};

template <int W>
PD_INLINE float squares(const Run& run) {
  F<W> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * W <= run.count; i += 4 * W) {
    for (int b = 0; b < 4; ++b) {
      const F<W> v = load<W>(run.data + i + b * W);
      sums[b] += v * v;
    }
  }
  float total = sum<W>((sums[0] + sums[1]) + (sums[2] + sums[3]));
  for (; i < run.count; ++i) total += run.data[i] * run.data[i];
  return total;
}

float squares_baseline(const Run& run) { return squares<4>(run); }
#if defined(PD_AVX512)
PD_AVX2 float squares_avx2(const Run& run) { return squares<8>(run); }
PD_AVX512 float squares_avx512(const Run& run) { return squares<16>(run); }
#endif

float squares_of(const Run& run) {
  switch (simd_level()) {
#if defined(PD_AVX512)
    case SimdLevel::Avx512: return squares_avx512(run);
    case SimdLevel::Avx2: return squares_avx2(run);
#endif
    default: return squares_baseline(run);
  }
}

bool has_kernel(const Tensor& grad) {
  return grad.device().is_cpu() && grad.scalar_type() == at::kFloat;
}

double norm_of(std::vector<Tensor> grads) {
  if (!std::all_of(grads.begin(), grads.end(), has_kernel)) {
    return at::stack(at::_foreach_norm(grads, 2)).norm().item<double>();
  }
  std::vector<Run> runs;
  for (Tensor& grad : grads) {
    if (!grad.is_non_overlapping_and_dense()) grad = grad.contiguous();
    const float* data = grad.data_ptr<float>();
    for (int64_t at = 0; at < grad.numel(); at += kRun) runs.push_back({data + at, std::min(kRun, grad.numel() - at)});
  }
  std::vector<double> sums(runs.size());
  parallel_for(static_cast<int64_t>(runs.size()), 8, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sums[i] = squares_of(runs[i]);
  });
  return std::sqrt(std::accumulate(sums.begin(), sums.end(), 0.0));
}

std::vector<Tensor> gradients_of(at::TensorList parameters) {
  std::vector<Tensor> grads;
  for (const Tensor& parameter : parameters) {
    const Tensor& grad = parameter.grad();
    if (grad.defined()) grads.push_back(grad);
  }
  return grads;
}

double sanitise_gradients(at::TensorList parameters, double factor) {
  at::NoGradGuard no_grad;
  std::vector<Tensor> grads = gradients_of(parameters);
  if (grads.empty()) return 0;
  if (factor != 1) at::_foreach_mul_(grads, factor);
  const double norm = norm_of(grads);
  if (!std::isfinite(norm)) {
    for (Tensor& grad : grads) at::nan_to_num_(grad, 0.0, 1e5, -1e5);
  }
  return norm;
}

// The same where nobody waits for the device: the norm stays there, and all gradients are looked through.
Tensor clean_gradients(at::TensorList parameters) {
  at::NoGradGuard no_grad;
  std::vector<Tensor> grads = gradients_of(parameters);
  if (grads.empty()) return at::zeros({}, at::kFloat);
  const Tensor norm = at::stack(at::_foreach_norm(grads, 2)).norm();
  for (Tensor& grad : grads) at::nan_to_num_(grad, 0.0, 1e5, -1e5);
  return norm;
}

TORCH_LIBRARY_FRAGMENT(patch_diffusion, library) {
  library.def("sanitise_gradients(Tensor[] parameters, float factor) -> float", sanitise_gradients);
  library.def("clean_gradients(Tensor[] parameters) -> Tensor", clean_gradients);
}

}  // namespace

}  // namespace pd
