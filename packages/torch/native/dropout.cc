// Dropout in one pass on a CPU. libtorch draws 64 random bits for each element; here four elements share the 63 bits of
// one draw of its generator, 15 bits each, and what is kept is a byte per element for the gradient.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>

#include "parallel.h"
#include "simd.h"

namespace pd {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using namespace simd;

constexpr int64_t kSteps = 1 << 15;  // probabilities are multiples of 1 / kSteps

struct Odds {
  int32_t threshold;  // numbers from −2¹⁵ to 2¹⁵ − 1 below it drop their element
  float factor;       // on the others
};

Odds odds_of(double p) {
  const int64_t dropped = static_cast<int64_t>(std::floor(p * kSteps + 0.5));
  return {static_cast<int32_t>(2 * dropped - kSteps),
          static_cast<float>(kSteps) / static_cast<float>(std::max<int64_t>(kSteps - dropped, 1))};
}

template <int W>
struct Draws {
  typedef uint64_t Q __attribute__((vector_size(W * 2)));
  typedef int16_t S __attribute__((vector_size(W * 2)));
  typedef uint8_t B __attribute__((vector_size(W)));
};

// The numbers of W elements. Doubling a draw puts the bit that is missing at the bottom, where even thresholds do not
// see it.
template <int W>
PD_INLINE I<W> numbers(const uint64_t* draws) {
  typename Draws<W>::Q q;
  std::memcpy(&q, draws, sizeof(q));
  return __builtin_convertvector(bits<typename Draws<W>::S>(q << 1), I<W>);
}

template <int W, class T>
PD_INLINE void drop(const T* x, const uint64_t* draws, T* y, uint8_t* kept, const Odds& odds) {
  const I<W> keep = numbers<W>(draws) >= odds.threshold;
  store<W>(y, load<W>(x) * (keep ? all<W>(odds.factor) : F<W>{}));
  const typename Draws<W>::B bytes = __builtin_convertvector(keep & 1, typename Draws<W>::B);
  std::memcpy(kept, &bytes, sizeof(bytes));
}

template <int W, class T>
PD_INLINE void drop_gradient(const T* grad, const uint8_t* kept, T* out, float factor) {
  typename Draws<W>::B bytes;
  std::memcpy(&bytes, kept, sizeof(bytes));
  const I<W> keep = __builtin_convertvector(bytes, I<W>) != 0;
  store<W>(out, load<W>(grad) * (keep ? all<W>(factor) : F<W>{}));
}

// One pass over memory: forward where there are draws, else the gradient.
template <class T>
struct Job {
  const T* from;
  T* to;
  uint8_t* kept;
  const uint64_t* draws;
  Odds odds;
};

template <int W, class T>
PD_INLINE void run(const Job<T>& job, int64_t begin, int64_t end) {
  int64_t i = begin;
  for (; i + W <= end; i += W) {
    if (job.draws) {
      drop<W, T>(job.from + i, job.draws + i / 4, job.to + i, job.kept + i, job.odds);
    } else {
      drop_gradient<W, T>(job.from + i, job.kept + i, job.to + i, job.odds.factor);
    }
  }
  if (i == end) return;
  const size_t rest = static_cast<size_t>(end - i);
  T from[W] = {}, to[W];
  uint8_t kept[W] = {};
  uint64_t draws[W / 4] = {};
  std::copy(job.from + i, job.from + end, from);
  if (job.draws) {
    std::copy(job.draws + i / 4, job.draws + (end + 3) / 4, draws);
    drop<W, T>(from, draws, to, kept, job.odds);
    std::copy(kept, kept + rest, job.kept + i);
  } else {
    std::copy(job.kept + i, job.kept + end, kept);
    drop_gradient<W, T>(from, kept, to, job.odds.factor);
  }
  std::copy(to, to + rest, job.to + i);
}

#define PD_RUN(target, name, W)                                       \
  template <class T>                                                  \
  target void name(const Job<T>& job, int64_t begin, int64_t end) {   \
    run<W, T>(job, begin, end);                                       \
  }
PD_RUN(, run_baseline, 4)
#if defined(PD_AVX512)
PD_RUN(PD_AVX2, run_avx2, 8)
PD_RUN(PD_AVX512, run_avx512, 16)
#endif

template <class T>
void run_all(const Job<T>& job, int64_t count) {
  constexpr int64_t kBlock = 1024;  // a multiple of every W
  parallel_for((count + kBlock - 1) / kBlock, 32, [&](int64_t first, int64_t last) {
    const int64_t begin = first * kBlock, end = std::min(last * kBlock, count);
    switch (simd_level()) {
#if defined(PD_AVX512)
      case SimdLevel::Avx512: return run_avx512<T>(job, begin, end);
      case SimdLevel::Avx2: return run_avx2<T>(job, begin, end);
#endif
      default: return run_baseline<T>(job, begin, end);
    }
  });
}

// `from`, `to` and `kept` have the same strides, without gaps: memory is walked from end to end.
void run_tensors(const Tensor& from, const Tensor& to, const Tensor& kept, const Tensor& draws, const Odds& odds) {
  const uint64_t* numbers = draws.defined() ? reinterpret_cast<const uint64_t*>(draws.data_ptr<int64_t>()) : nullptr;
  uint8_t* bytes = kept.data_ptr<uint8_t>();
  if (from.scalar_type() == at::kFloat) {
    run_all<float>({from.data_ptr<float>(), to.data_ptr<float>(), bytes, numbers, odds}, from.numel());
  } else {
    using B = c10::BFloat16;
    run_all<B>({from.data_ptr<B>(), to.data_ptr<B>(), bytes, numbers, odds}, from.numel());
  }
}

class Dropout : public torch::autograd::Function<Dropout> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& draws, double p) {
    const Tensor y = at::empty_strided(x.sizes(), x.strides(), x.options());
    const Tensor kept = at::empty_strided(x.sizes(), x.strides(), x.options().dtype(at::kByte));
    run_tensors(x, y, kept, draws, odds_of(p));
    context->save_for_backward({kept});
    context->saved_data["p"] = p;
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const Tensor kept = context->get_saved_variables()[0];
    const Odds odds = odds_of(context->saved_data["p"].toDouble());
    Tensor grad = grads[0];
    if (at::GradMode::is_enabled()) return {grad * kept.to(grad.scalar_type()) * odds.factor, Tensor(), Tensor()};
    if (grad.strides() != kept.strides()) {
      grad = at::empty_strided(kept.sizes(), kept.strides(), grad.options()).copy_(grad);
    }
    const Tensor out = at::empty_strided(kept.sizes(), kept.strides(), grad.options());
    run_tensors(grad, out, kept, Tensor(), odds);
    return {out, Tensor(), Tensor()};
  }
};

Tensor dropout(const Tensor& given, double p) {
  TORCH_CHECK(p >= 0 && p <= 1, "dropout: p must be between 0 and 1, not ", p);
  if (!given.device().is_cpu()) return at::dropout(given, p, true);
  const Tensor x = given.is_non_overlapping_and_dense() ? given : given.contiguous();
  Tensor draws = at::empty({(x.numel() + 3) / 4}, at::TensorOptions().dtype(at::kLong)).random_();
  if (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16) return Dropout::apply(x, draws, p);
  const Odds odds = odds_of(p);
  const Tensor kept = draws.mul_(2).view(at::kShort).as_strided(x.sizes(), x.strides()).ge(odds.threshold);
  return x * kept.to(x.scalar_type()) * odds.factor;
}

TORCH_LIBRARY_FRAGMENT(patch_diffusion, library) { library.def("dropout(Tensor x, float p) -> Tensor", dropout); }

}  // namespace

}  // namespace pd
