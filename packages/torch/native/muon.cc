// One step of Muon (Jordan et al. 2024) for matrices. Float32 on a CPU. Momentum, look-ahead and norm take one
// pass over memory, and the update is added to the parameters by the matrix product that makes it.
//
// Convolution kernels are matrices in the order in which they lie in memory: channels-last, their columns are in another
// order than contiguous ones, which changes nothing about which matrix is the nearest orthogonal one.
#include <ATen/ATen.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "layout.h"
#include "parallel.h"
#include "simd.h"

namespace pd {

namespace {

using at::Tensor;
using namespace simd;

// Memory of one matrix.
struct Matrix {
  const float* grad;
  float* momentum;
  float* ahead;  // Nesterov's look-ahead
  int64_t count;
};

template <int W>
PD_INLINE F<W> advance(const Matrix& matrix, int64_t i, float beta) {
  const F<W> grad = load<W>(matrix.grad + i);
  const F<W> momentum = load<W>(matrix.momentum + i) * beta + grad;
  const F<W> ahead = grad + momentum * beta;
  store<W>(matrix.momentum + i, momentum);
  store<W>(matrix.ahead + i, ahead);
  return ahead * ahead;
}

// Moves the momentum. Returns the sum of the squares of the look-ahead.
template <int W>
PD_INLINE double advance_all(const Matrix& matrix, float beta) {
  constexpr int64_t kRun = 4096;  // float32 sums up to here
  double total = 0;
  int64_t i = 0;
  while (i + W <= matrix.count) {
    const int64_t end = std::min(matrix.count, i + kRun);
    F<W> squares{};
    for (; i + W <= end; i += W) squares += advance<W>(matrix, i, beta);
    for (int k = 0; k < W; ++k) total += squares[k];
  }
  for (; i < matrix.count; ++i) total += advance<1>(matrix, i, beta)[0];
  return total;
}

double advance_baseline(const Matrix& matrix, float beta) { return advance_all<4>(matrix, beta); }
#if defined(PD_AVX512)
PD_AVX2 double advance_avx2(const Matrix& matrix, float beta) { return advance_all<8>(matrix, beta); }
PD_AVX512 double advance_avx512(const Matrix& matrix, float beta) { return advance_all<16>(matrix, beta); }
#endif

double advance_any(const Matrix& matrix, float beta) {
  switch (simd_level()) {
#if defined(PD_AVX512)
    case SimdLevel::Avx512: return advance_avx512(matrix, beta);
    case SimdLevel::Avx2: return advance_avx2(matrix, beta);
#endif
    default: return advance_baseline(matrix, beta);
  }
}

// A parameter's memory as [out, all the rest].
Tensor as_matrix(const Tensor& param) {
  if (param.is_contiguous()) return param.detach().view({param.size(0), -1});
  TORCH_CHECK(param.is_contiguous(at::MemoryFormat::ChannelsLast), "muon_update: parameters must be without gaps");
  return param.detach().permute({0, 2, 3, 1}).view({param.size(0), -1});
}

// A parameter in the course of a step.
struct Update {
  Tensor weight;  // [m, n], memory of the parameter
  Tensor ahead;   // [m, n], not normalised
  double scale;   // 1 / its norm
  bool is_tall() const { return weight.size(0) > weight.size(1); }
  int64_t side() const { return std::min(weight.size(0), weight.size(1)); }
};

// Moves the momenta and gives what the parameters will be moved by, not orthogonal yet.
std::vector<Update> look_ahead(at::TensorList params, at::TensorList momenta, float beta) {
  std::vector<Update> updates;
  std::vector<Tensor> grads;
  for (size_t k = 0; k < params.size(); ++k) {
    const Tensor& param = params[k];
    TORCH_CHECK(param.device().is_cpu() && param.scalar_type() == at::kFloat,
                "muon_update: parameters must be float32 on the CPU");
    grads.push_back(gradient_like(param));
    TORCH_CHECK(grads[k].defined(), "muon_update: parameter ", k, " has no gradient");
    lay_out_like(momenta[k], param);
    const Tensor weight = as_matrix(param);
    updates.push_back({weight, at::empty_like(weight), 0});
  }
  parallel_for(static_cast<int64_t>(updates.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      Update& update = updates[k];
      const Matrix matrix{grads[k].data_ptr<float>(), momenta[k].data_ptr<float>(), update.ahead.data_ptr<float>(),
                          update.weight.numel()};
      update.scale = 1 / (std::sqrt(advance_any(matrix, beta)) + 1e-7);
    }
  });
  return updates;
}

// P with P · X or X · P the orthogonal matrix: the product of polynomials a + b·G + c·G² of Gram matrices G [L, k, k],
// where each step makes the next G = polynomial · G · polynomial.
Tensor orthogonalising(Tensor gram, double a, double b, double c, int64_t iterations) {
  Tensor product;
  for (int64_t i = 0; i < iterations; ++i) {
    Tensor polynomial = at::baddbmm(gram, gram, gram, b, c);
    polynomial.diagonal(0, 1, 2).add_(a);
    product = product.defined() ? at::bmm(polynomial, product) : polynomial;
    if (i + 1 < iterations) gram = at::bmm(at::bmm(polynomial, gram), polynomial);
  }
  return product;
}

void muon_update(at::TensorList params, at::TensorList momenta, double lr, double beta, double a, double b, double c,
                 int64_t iterations) {
  at::NoGradGuard no_grad;
  // Gram matrices of one size are multiplied together.
  std::map<int64_t, std::vector<Update>> by_side;
  for (Update& update : look_ahead(params, momenta, static_cast<float>(beta))) by_side[update.side()].push_back(update);
  for (const auto& [side, updates] : by_side) {
    const int64_t count = static_cast<int64_t>(updates.size());
    Tensor grams = at::empty({count, side, side}, updates[0].weight.options());
    for (int64_t k = 0; k < count; ++k) {
      const Update& update = updates[k];
      const Tensor& X = update.ahead;
      Tensor gram = grams[k];
      gram.addmm_(update.is_tall() ? X.t() : X, update.is_tall() ? X : X.t(), 0, update.scale * update.scale);
    }
    const Tensor products = orthogonalising(grams, a, b, c, iterations);
    for (int64_t k = 0; k < count; ++k) {
      const Update& update = updates[k];
      const double largest = static_cast<double>(std::max(update.weight.size(0), update.weight.size(1)));
      const double factor = -lr * std::sqrt(largest) * update.scale;
      const Tensor& X = update.ahead;
      Tensor weight = update.weight;
      weight.addmm_(update.is_tall() ? X : products[k], update.is_tall() ? products[k] : X, 1, factor);
    }
  }
}

TORCH_LIBRARY_FRAGMENT(patch_diffusion, library) {
  library.def(
      "muon_update(Tensor[] params, Tensor[] momenta, float lr, float beta, float a, float b, float c, int iterations) -> ()",
      muon_update);
}

}  // namespace

}  // namespace pd
