// Sums the gradients of all ranks in flat buckets, while backward still goes on.
//
// The parameters' gradients are views into the buckets, which hold parameters in reverse order: the last layers, whose
// gradients come first, are in the first bucket. When all gradients of a bucket are there, its sum is started, in the same
// order of buckets on every rank.
#include "distributed.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include <mutex>

namespace pd {

#ifdef PD_HAS_C10D

namespace {

using torch::autograd::variable_list;

struct Reducer {
  using Accumulator = decltype(torch::autograd::impl::grad_accumulator(std::declval<const at::Tensor&>()));

  struct Bucket {
    at::Tensor flat;
    size_t parameters = 0;
    size_t missing = 0;  // gradients that are not there yet
  };

  std::shared_ptr<GroupBox> group;
  std::vector<at::Tensor> parameters;
  std::vector<at::Tensor> views;  // into the buckets, one for each parameter
  std::vector<Bucket> buckets;
  std::vector<Accumulator> accumulators;  // they carry the hooks, and live as long as somebody holds them

  std::mutex mutex;  // hooks run on autograd's threads
  bool is_armed = false;
  size_t next = 0;  // the bucket whose sum is started next
  std::vector<WorkPtr> works;
  std::exception_ptr failure;

  void arrived(size_t bucket) {
    std::lock_guard<std::mutex> lock(mutex);
    if (!is_armed || buckets[bucket].missing == 0) return;
    buckets[bucket].missing--;
    start_ready();
  }

  void start_ready() {
    while (next < buckets.size() && buckets[next].missing == 0) {
      std::vector<at::Tensor> tensors{buckets[next].flat};
      next++;
      try {
        if (!failure && group->group) works.push_back(group->group->allreduce(tensors));
      } catch (...) {
        failure = std::current_exception();  // told by finish(): an exception would leave autograd half done
      }
    }
  }

  void zero() {
    for (Bucket& bucket : buckets) bucket.flat.zero_();
    for (size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = views[i];
  }
};

struct ArrivalHook : torch::autograd::FunctionPostHook {
  std::weak_ptr<Reducer> reducer;
  size_t bucket;
  ArrivalHook(std::weak_ptr<Reducer> reducer_, size_t bucket_) : reducer(std::move(reducer_)), bucket(bucket_) {}
  variable_list operator()(const variable_list& outputs, const variable_list&) override {
    if (auto alive = reducer.lock()) alive->arrived(bucket);
    return outputs;
  }
};

// As the parameter lies in memory, where it is dense: then element-wise kernels need no other order.
at::Tensor view_like(const at::Tensor& flat, int64_t offset, const at::Tensor& parameter) {
  return parameter.is_non_overlapping_and_dense()
             ? flat.as_strided(parameter.sizes(), parameter.strides(), offset)
             : flat.narrow(0, offset, parameter.numel()).view(parameter.sizes());
}

// createReducer(group, parameters, bucketBytes) -> reducer; the parameters get gradients of zeros
napi_value create_reducer(Call& call) {
  auto reducer = std::make_shared<Reducer>();
  reducer->group = unwrap_shared<GroupBox>(call.env, call.args[0]);
  reducer->parameters = get_tensors(call.state, call.args[1]);
  const int64_t limit = get_int(call.env, call.args[2]);
  const auto& parameters = reducer->parameters;
  reducer->views.resize(parameters.size());
  for (size_t end = parameters.size(); end > 0;) {
    const at::Tensor& first = parameters[end - 1];
    size_t begin = end;
    int64_t length = 0;
    while (begin > 0 && parameters[begin - 1].options().type_equal(first.options()) &&
           parameters[begin - 1].device() == first.device() &&
           (begin == end || (length + parameters[begin - 1].numel()) * first.element_size() <= limit)) {
      length += parameters[--begin].numel();
    }
    Reducer::Bucket bucket;
    bucket.flat = at::zeros({length}, first.options().requires_grad(false));
    bucket.parameters = end - begin;
    int64_t offset = 0;
    for (size_t i = begin; i < end; ++i) {
      reducer->views[i] = view_like(bucket.flat, offset, parameters[i]);
      offset += parameters[i].numel();
      auto accumulator = torch::autograd::impl::grad_accumulator(parameters[i]);
      accumulator->add_post_hook(std::make_unique<ArrivalHook>(reducer, reducer->buckets.size()));
      reducer->accumulators.push_back(std::move(accumulator));
    }
    reducer->buckets.push_back(std::move(bucket));
    end = begin;
  }
  reducer->zero();
  return wrap_shared(call.env, reducer);
}

napi_value zero_gradients(Call& call) {
  unwrap_shared<Reducer>(call.env, call.args[0])->zero();
  return nullptr;
}

// armReducer(reducer): the next backward is the last of the update.
napi_value arm_reducer(Call& call) {
  const auto reducer = unwrap_shared<Reducer>(call.env, call.args[0]);
  std::lock_guard<std::mutex> lock(reducer->mutex);
  for (auto& bucket : reducer->buckets) bucket.missing = bucket.parameters;
  reducer->next = 0;
  reducer->is_armed = true;
  return nullptr;
}

// finishReducer(reducer) -> Promise: the gradients are the sums over all ranks
napi_value finish_reducer(Call& call) {
  const auto reducer = unwrap_shared<Reducer>(call.env, call.args[0]);
  napi_value value;
  const auto promise = Promise::make(call.state, "torch.reduceGradients", &value);
  reducer->group->add(promise);
  std::vector<WorkPtr> works;
  std::exception_ptr failure;
  {
    std::lock_guard<std::mutex> lock(reducer->mutex);
    // Parameters without a gradient (or a rank without a share in the last backward) hold nothing up.
    for (auto& bucket : reducer->buckets) bucket.missing = 0;
    reducer->start_ready();
    reducer->is_armed = false;
    works.swap(reducer->works);
    std::swap(failure, reducer->failure);
  }
  if (failure) {
    promise->reject(message_of(failure));
  } else {
    when_done(std::move(works), promise);
  }
  return value;
}

}  // namespace

void define_gradient_reducer(State& state, napi_value exports) {
  define(state, exports,
         {{"createReducer", entry<create_reducer>},
          {"zeroReducer", entry<zero_gradients>},
          {"armReducer", entry<arm_reducer>},
          {"finishReducer", entry<finish_reducer>}});
}

#else
void define_gradient_reducer(State&, napi_value) {}
#endif

}  // namespace pd
