// Group normalisation with all that stands around it in a residual block, in one operator with its gradient:
//
//   y = act(norm(x + add) · weight · (1 + scale) + bias · (1 + scale) + shift)
//
// per sample and channel, with act SiLU or nothing; add, scale and shift [N | 1, C] are optional. On a CPU in float32
// and bfloat16 it takes one pass over x for the statistics and one for the result (statistics and arithmetic float32),
// and the same again for the gradient; in both memory orders. Elsewhere it is made of libtorch's operators.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

#include "group_norm_kernel.h"
#include "parallel.h"

namespace pd {

namespace {

using at::Tensor;
using MaybeTensor = c10::optional<Tensor>;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct Settings {
  int64_t groups;
  double eps;
  bool silu;
};

// Scratch and results in float32.
Tensor floats(at::IntArrayRef sizes) { return at::empty(sizes, at::TensorOptions().dtype(at::kFloat)); }

Tensor or_undefined(const MaybeTensor& tensor) { return tensor ? *tensor : Tensor(); }

// Float32 and dense: parameters and embeddings come in either type, the latter as parts of a larger tensor.
Tensor plain(const MaybeTensor& tensor) {
  return tensor && tensor->defined() ? tensor->detach().to(at::kFloat).contiguous() : Tensor();
}
const float* data(const Tensor& tensor) { return tensor.defined() ? tensor.data_ptr<float>() : nullptr; }

at::MemoryFormat format_of(const Tensor& x) { return x.suggest_memory_format(); }

// Runs `first` over everything, then `finish` for each sample, then `second`: sample by sample, so that a sample is
// still in the cache, or phase by phase where there are fewer samples than threads.
template <class Finish>
void two_phases(const GroupNormJob& job, GroupNormPhase first, GroupNormPhase second, Finish&& finish) {
  const int64_t per_sample = job.items_per_sample();
  const int64_t elements = job.channels * job.positions;
  constexpr int64_t kGrainElements = 32768;
  if (job.samples >= at::get_num_threads() || job.samples * elements < 2 * kGrainElements) {
    parallel_for(job.samples, kGrainElements / elements + 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n) {
        run_group_norm(job, first, n * per_sample, (n + 1) * per_sample);
        finish(n);
        run_group_norm(job, second, n * per_sample, (n + 1) * per_sample);
      }
    });
    return;
  }
  const int64_t items = job.samples * per_sample;
  const int64_t grain = kGrainElements / (elements / per_sample + 1) + 1;
  parallel_for(items, grain, [&](int64_t begin, int64_t end) { run_group_norm(job, first, begin, end); });
  for (int64_t n = 0; n < job.samples; ++n) finish(n);
  parallel_for(items, grain, [&](int64_t begin, int64_t end) { run_group_norm(job, second, begin, end); });
}

GroupNormJob describe_job(const Tensor& x, const Settings& settings) {
  GroupNormJob job;
  job.samples = x.size(0);
  job.channels = x.size(1);
  job.positions = x.numel() / (job.samples * job.channels);
  job.channels_last = format_of(x) == at::MemoryFormat::ChannelsLast;
  job.silu = settings.silu;
  job.bfloat16 = x.scalar_type() == at::kBFloat16;
  job.x = x.data_ptr();
  return job;
}

// What the gradient needs besides x and the parameters.
struct Saved {
  Tensor channels;  // [3, N, C]: scale and offset of z = scale · x + offset, mean of the channel
  Tensor groups;    // [2, N, G]: mean and reciprocal standard deviation
};

Tensor forward_kernel(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& add,
                      const Tensor& scale, const Tensor& shift, const Settings& settings, Saved& saved) {
  GroupNormJob job = describe_job(x, settings);
  Tensor y = at::empty_like(x, x.options(), format_of(x));
  job.out = y.data_ptr();
  const int64_t samples = job.samples, channels = job.channels, groups = settings.groups, parts = job.parts();
  Tensor partial = floats({samples, parts, 2, channels});
  saved.channels = floats({3, samples, channels});
  saved.groups = floats({2, samples, groups});
  job.partial = partial.data_ptr<float>();
  float* factors = saved.channels.data_ptr<float>();
  float* offsets = factors + samples * channels;
  float* means = offsets + samples * channels;
  float* group_means = saved.groups.data_ptr<float>();
  float* group_rstds = group_means + samples * groups;
  job.scale = factors;
  job.offset = offsets;
  const float *w = data(weight), *b = data(bias), *added = data(add), *scales = data(scale), *shifts = data(shift);
  const int64_t width = channels / groups;

  const auto finish = [&](int64_t n) {
    for (int64_t g = 0; g < groups; ++g) {
      // Means and squared differences of ever larger sets (Chan et al. 1983).
      double mean = 0, squares = 0, count = 0;
      const auto join = [&](double other_mean, double other_squares, double other_count) {
        const double total = count + other_count, delta = other_mean - mean;
        squares += other_squares + delta * delta * count * other_count / total;
        mean += delta * other_count / total;
        count = total;
      };
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        double channel_mean = 0, seen = 0;
        for (int64_t p = 0; p < parts; ++p) {
          const float* row = job.partial + (n * parts + p) * 2 * channels + c;
          const double size = static_cast<double>(job.part_positions(p));
          seen += size;
          channel_mean += (row[0] - channel_mean) * size / seen;
          join(row[0] + (added ? added[n * channels + c] : 0.0f), row[channels], size);
        }
        means[n * channels + c] = static_cast<float>(channel_mean);
      }
      const double rstd = 1 / std::sqrt(squares / count + settings.eps);
      group_means[n * groups + g] = static_cast<float>(mean);
      group_rstds[n * groups + g] = static_cast<float>(rstd);
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        const int64_t i = n * channels + c;
        const double gain = scales ? 1.0 + scales[i] : 1.0;
        const double factor = rstd * (w ? w[c] : 1.0f) * gain;
        factors[i] = static_cast<float>(factor);
        offsets[i] = static_cast<float>(((added ? added[i] : 0.0f) - mean) * factor + (b ? b[c] : 0.0f) * gain +
                                        (shifts ? shifts[i] : 0.0f));
      }
    }
  };
  two_phases(job, GroupNormPhase::Moments, GroupNormPhase::Forward, finish);
  return y;
}

struct Gradients {
  Tensor x, weight, bias, add, scale, shift;
};

Gradients backward_kernel(const Tensor& grad, const Tensor& x, const Tensor& weight, const Tensor& bias,
                          const Tensor& add, const Tensor& scale, const Saved& saved, const Settings& settings) {
  GroupNormJob job = describe_job(x, settings);
  Gradients result;
  result.x = at::empty_like(x, x.options(), format_of(x));
  job.grad = grad.data_ptr();
  job.out = result.x.data_ptr();
  const int64_t samples = job.samples, channels = job.channels, groups = settings.groups, parts = job.parts();
  Tensor partial = floats({samples, parts, 2, channels});
  Tensor coefficients = floats({2, samples, channels});
  // Per sample; the parameters' gradients are their sums over the samples.
  Tensor by_sample = at::empty({5, samples, channels}, at::TensorOptions().dtype(at::kFloat));
  job.partial = partial.data_ptr<float>();
  job.scale = saved.channels.data_ptr<float>();
  job.offset = job.scale + samples * channels;
  job.pivot = job.offset + samples * channels;
  float* slopes = coefficients.data_ptr<float>();
  float* constants = slopes + samples * channels;
  job.slope = slopes;
  job.constant = constants;
  float* out_weight = by_sample.data_ptr<float>();
  float* out_bias = out_weight + samples * channels;
  float* out_add = out_bias + samples * channels;
  float* out_scale = out_add + samples * channels;
  float* out_shift = out_scale + samples * channels;
  const float* group_means = saved.groups.data_ptr<float>();
  const float* group_rstds = group_means + samples * groups;
  const float *w = data(weight), *b = data(bias), *added = data(add), *scales = data(scale);
  const int64_t width = channels / groups;
  const double positions = static_cast<double>(job.positions);

  const auto finish = [&](int64_t n) {
    for (int64_t g = 0; g < groups; ++g) {
      const double rstd = group_rstds[n * groups + g], mean = group_means[n * groups + g];
      // Sums over the group of d = dL/d(normalised x), and of d times normalised x.
      double total = 0, total_normed = 0;
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        const int64_t i = n * channels + c;
        double sum = 0, product = 0;
        for (int64_t p = 0; p < parts; ++p) {
          const float* row = job.partial + (n * parts + p) * 2 * channels + c;
          sum += row[0];
          product += row[channels];
        }
        const double centre = job.pivot[i] + (added ? added[i] : 0.0f) - mean;
        const double normed = rstd * (product + centre * sum);  // sum of dz · normalised x
        const double gain = scales ? 1.0 + scales[i] : 1.0, weight_c = w ? w[c] : 1.0f, bias_c = b ? b[c] : 0.0f;
        out_weight[i] = static_cast<float>(normed * gain);
        out_bias[i] = static_cast<float>(sum * gain);
        out_scale[i] = static_cast<float>(normed * weight_c + sum * bias_c);
        out_shift[i] = static_cast<float>(sum);
        total += sum * gain * weight_c;
        total_normed += normed * gain * weight_c;
      }
      const double count = positions * static_cast<double>(width);
      for (int64_t c = g * width; c < (g + 1) * width; ++c) {
        const int64_t i = n * channels + c;
        const double slope = -rstd * rstd * total_normed / count;
        slopes[i] = static_cast<float>(slope);
        constants[i] = static_cast<float>(-rstd * total / count + slope * ((added ? added[i] : 0.0f) - mean));
        const double centre = job.pivot[i] + (added ? added[i] : 0.0f) - mean;
        out_add[i] =
            static_cast<float>(job.scale[i] * static_cast<double>(out_shift[i]) +
                               positions * (-rstd * total / count + slope * centre));
      }
    }
  };
  two_phases(job, GroupNormPhase::Sums, GroupNormPhase::Backward, finish);

  if (weight.defined()) result.weight = by_sample[0].sum(0);
  if (bias.defined()) result.bias = by_sample[1].sum(0);
  result.add = by_sample[2];
  result.scale = by_sample[3];
  result.shift = by_sample[4];
  return result;
}

class GroupNormAct : public torch::autograd::Function<GroupNormAct> {
 public:
  static Tensor forward(AutogradContext* context, const Tensor& x, const MaybeTensor& weight,
                        const MaybeTensor& bias, const MaybeTensor& add, const MaybeTensor& scale,
                        const MaybeTensor& shift, int64_t groups, double eps, bool silu) {
    Saved saved;
    const Tensor values = x.contiguous(format_of(x));
    const Tensor w = plain(weight), b = plain(bias), a = plain(add), s = plain(scale);
    Tensor y = forward_kernel(values, w, b, a, s, plain(shift), {groups, eps, silu}, saved);
    context->save_for_backward({values, w, b, a, s, saved.channels, saved.groups});
    context->saved_data["groups"] = groups;
    context->saved_data["eps"] = eps;
    context->saved_data["silu"] = silu;
    const auto type = [](const MaybeTensor& tensor) {
      return tensor ? static_cast<int64_t>(tensor->scalar_type()) : kAbsent;
    };
    context->saved_data["types"] =
        std::vector<int64_t>{type(weight), type(bias), type(add), type(scale), type(shift)};
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "group_norm_act: its gradient cannot be differentiated again");
    const variable_list saved = context->get_saved_variables();
    const Tensor& x = saved[0];
    const Settings settings{context->saved_data["groups"].toInt(), context->saved_data["eps"].toDouble(),
                            context->saved_data["silu"].toBool()};
    const Tensor grad = grads[0].to(x.scalar_type()).contiguous(format_of(x));
    const Gradients result =
        backward_kernel(grad, x, saved[1], saved[2], saved[3], saved[4], {saved[5], saved[6]}, settings);
    const auto types = context->saved_data["types"].toIntVector();
    const auto as = [&](const Tensor& tensor, size_t i) {
      return types[i] == kAbsent ? Tensor() : tensor.to(static_cast<at::ScalarType>(types[i]));
    };
    return {result.x,           as(result.weight, 0), as(result.bias, 1), as(result.add, 2), as(result.scale, 3),
            as(result.shift, 4), Tensor(),            Tensor(),          Tensor()};
  }

 private:
  static constexpr int64_t kAbsent = -1;  // an input that was not given, instead of its type
};

Tensor composed(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& add, const Tensor& scale,
                const Tensor& shift, const Settings& settings) {
  const auto type = x.scalar_type();
  const auto like = [&](const Tensor& tensor) { return tensor.defined() ? tensor.to(type) : tensor; };
  std::vector<int64_t> per_channel(x.dim(), 1);
  const auto spread = [&](const Tensor& tensor) {
    per_channel[0] = tensor.size(0);
    per_channel[1] = tensor.size(1);
    return like(tensor).reshape(per_channel);
  };
  Tensor y = at::group_norm(add.defined() ? x + spread(add) : x, settings.groups, like(weight), like(bias),
                            settings.eps);
  if (scale.defined() && shift.defined()) {
    y = at::addcmul(spread(shift), y, spread(scale) + 1);
  } else if (scale.defined()) {
    y = y * (spread(scale) + 1);
  } else if (shift.defined()) {
    y = y + spread(shift);
  }
  return settings.silu ? at::silu(y) : y;
}

void check_sizes(const Tensor& x, const Tensor& tensor, const char* name) {
  TORCH_CHECK(!tensor.defined() || (tensor.dim() == 2 && tensor.size(1) == x.size(1) &&
                                    (tensor.size(0) == x.size(0) || tensor.size(0) == 1)),
              "group_norm_act: ", name, " must be [N or 1, C] for x [N, C, ...]");
}

Tensor group_norm_act(const Tensor& x, int64_t groups, const MaybeTensor& weight_, const MaybeTensor& bias_, double eps,
                      bool silu, const MaybeTensor& add_, const MaybeTensor& scale_, const MaybeTensor& shift_) {
  const Tensor weight = or_undefined(weight_), bias = or_undefined(bias_), add = or_undefined(add_),
               scale = or_undefined(scale_), shift = or_undefined(shift_);
  TORCH_CHECK(x.dim() >= 2, "group_norm_act: x must be [N, C, ...]");
  TORCH_CHECK(groups > 0 && x.size(1) % groups == 0, "group_norm_act: ", x.size(1), " channels do not make ", groups,
              " equal groups");
  for (const Tensor& parameter : {weight, bias}) {
    TORCH_CHECK(!parameter.defined() || (parameter.dim() == 1 && parameter.size(0) == x.size(1)),
                "group_norm_act: weight and bias must be [C] for x [N, C, ...]");
  }
  check_sizes(x, add, "add");
  check_sizes(x, scale, "scale");
  check_sizes(x, shift, "shift");
  const bool has_kernel =
      x.device().is_cpu() && x.numel() > 0 && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kBFloat16);
  const Settings settings{groups, eps, silu};
  if (!has_kernel) return composed(x, weight, bias, add, scale, shift, settings);
  const auto spread = [&](const Tensor& tensor) {
    return tensor.defined() ? MaybeTensor(tensor.expand({x.size(0), x.size(1)})) : MaybeTensor();
  };
  return GroupNormAct::apply(x, weight_, bias_, spread(add), spread(scale), spread(shift), groups, eps, silu);
}

TORCH_LIBRARY_FRAGMENT(patch_diffusion, library) {
  library.def(
      "group_norm_act(Tensor x, int groups, Tensor? weight, Tensor? bias, float eps, bool silu, Tensor? add=None, "
      "Tensor? scale=None, Tensor? shift=None) -> Tensor",
      group_norm_act);
}

}  // namespace

}  // namespace pd
