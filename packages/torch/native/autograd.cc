// Gradients: backward, .grad, requires-grad flags, and the gradient and inference modes of this thread.
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include "addon.h"
#include "inference_guard.h"

namespace pd {

namespace {

std::vector<at::Tensor> optional_tensors(Call& call, size_t i) {
  return call.given(i) ? get_tensors(call.state, call.args[i]) : std::vector<at::Tensor>{};
}

bool flag(Call& call, size_t i, bool fallback) { return call.given(i) ? get_bool(call.env, call.args[i]) : fallback; }

// backward(tensor, gradient?, retainGraph?, createGraph?)
napi_value backward(Call& call) {
  const at::Tensor root = get_tensor(call.state, call.args[0]);
  std::vector<at::Tensor> gradient;
  if (call.given(1)) gradient.push_back(get_tensor(call.state, call.args[1]));
  const bool create = flag(call, 3, false);
  try {
    torch::autograd::backward({root}, gradient, flag(call, 2, create), create);
  } catch (...) {
    const std::string summary = "self: " + describe(root);
    rethrow_to_js(call.state, "backward", &summary, nullptr);
    throw Pending{};
  }
  return nullptr;
}

// grad(outputs, inputs, gradOutputs?, retainGraph?, createGraph?, allowUnused?) -> handles (null when unused)
napi_value grad(Call& call) {
  const auto outputs = get_tensors(call.state, call.args[0]);
  const auto inputs = get_tensors(call.state, call.args[1]);
  const bool create = flag(call, 4, false);
  auto results = torch::autograd::grad(outputs, inputs, optional_tensors(call, 2), flag(call, 3, create), create,
                                       flag(call, 5, false));
  napi_value array;
  check(call.env, napi_create_array_with_length(call.env, results.size(), &array));
  for (size_t i = 0; i < results.size(); ++i) {
    check(call.env, napi_set_element(call.env, array, static_cast<uint32_t>(i),
                                     make_tensor(call.state, std::move(results[i]))));
  }
  return array;
}

napi_value get_grad(Call& call) { return make_tensor(call.state, get_tensor(call.state, call.args[0]).grad()); }

napi_value set_grad(Call& call) {
  const at::Tensor tensor = get_tensor(call.state, call.args[0]);
  if (!call.given(1)) {
    tensor.mutable_grad() = at::Tensor();
    return nullptr;
  }
  const at::Tensor gradient = get_tensor(call.state, call.args[1]);
  if (gradient.sizes() != tensor.sizes() || gradient.device() != tensor.device()) {
    throw Fault("ERR_TORCH_ARGUMENT",
                "grad: " + describe(gradient) + " cannot be the gradient of " + describe(tensor));
  }
  tensor.mutable_grad() = gradient;
  return nullptr;
}

napi_value requires_grad(Call& call) {
  return make_bool(call.env, get_tensor(call.state, call.args[0]).requires_grad());
}
napi_value set_requires_grad(Call& call) {
  const at::Tensor tensor = get_tensor(call.state, call.args[0]);
  const bool on = get_bool(call.env, call.args[1]);
  if (!on && !tensor.is_leaf()) {
    throw Fault("ERR_TORCH_ARGUMENT",
                "setRequiresGrad(false): the tensor is the result of a recorded operation; use detach()");
  }
  tensor.set_requires_grad(on);
  return nullptr;
}
// setData(tensor, other): the tensor keeps its identity (gradient, optimiser state) and takes other's memory.
napi_value set_data(Call& call) {
  const at::Tensor tensor = get_tensor(call.state, call.args[0]);
  tensor.set_data(get_tensor(call.state, call.args[1]));
  return nullptr;
}
napi_value is_leaf(Call& call) { return make_bool(call.env, get_tensor(call.state, call.args[0]).is_leaf()); }

napi_value is_grad_enabled(Call& call) { return make_bool(call.env, c10::GradMode::is_enabled()); }
napi_value set_grad_enabled(Call& call) {
  const bool before = c10::GradMode::is_enabled();
  c10::GradMode::set_enabled(get_bool(call.env, call.args[0]));
  return make_bool(call.env, before);
}

napi_value push_inference(Call& call) {
  call.state.inference.push_back(std::make_unique<InferenceGuard>());
  return nullptr;
}
napi_value pop_inference(Call& call) {
  if (!call.state.inference.empty()) call.state.inference.pop_back();
  return nullptr;
}

}  // namespace

void define_autograd(State& state, napi_value exports) {
  define(state, exports,
         {{"backward", entry<backward>},
          {"grad", entry<grad>},
          {"getGrad", entry<get_grad>},
          {"setGrad", entry<set_grad>},
          {"requiresGrad", entry<requires_grad>},
          {"setRequiresGrad", entry<set_requires_grad>},
          {"setData", entry<set_data>},
          {"isLeaf", entry<is_leaf>},
          {"isGradEnabled", entry<is_grad_enabled>},
          {"setGradEnabled", entry<set_grad_enabled>},
          {"pushInference", entry<push_inference>},
          {"popInference", entry<pop_inference>}});
}

}  // namespace pd
