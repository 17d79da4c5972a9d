// Shared by every file of the addon: the per-environment state, the call wrapper that keeps C++
// exceptions on this side of the boundary, and small Node-API helpers.
//
// The addon is loaded once per JavaScript environment (main thread and each worker); everything that is
// not libtorch's own lives in `State`, reached through the callback's data pointer.
#pragma once

#ifndef NAPI_VERSION
#define NAPI_VERSION 8
#endif
#include <node_api.h>

#include <ATen/core/Tensor.h>
#include <torch/version.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "table.h"

#define PD_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) || (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace pd {

struct Operator;
struct InferenceGuard;

struct State {
  napi_env env = nullptr;
  napi_ref error_class = nullptr;  // the JavaScript TorchError
  Table table;
  std::vector<std::unique_ptr<Operator>> operators;
  std::vector<std::unique_ptr<InferenceGuard>> inference;
  int64_t collectable_bytes_pending = 0;  // not yet told to the collector
  bool is_capturing = false;              // a graph, see graphs.cc

  State();
  ~State();
};

// A fault with a stable code, thrown inside the addon and turned into a TorchError at the boundary.
struct Fault : std::runtime_error {
  std::string code;
  Fault(std::string code_, const std::string& message) : std::runtime_error(message), code(std::move(code_)) {}
};

// A JavaScript exception is already pending in the environment.
struct Pending {};

struct Call {
  static constexpr size_t kMax = 8;
  State& state;
  napi_env env;
  size_t count;
  napi_value args[kMax];

  bool given(size_t i) const;  // present, not undefined, not null
};

// Turns the exception in flight into a pending JavaScript TorchError. `op` and `arguments` may be null.
void rethrow_to_js(State& state, const char* op, const std::string* summary, napi_value arguments) noexcept;

inline void check(napi_env env, napi_status status) {
  if (status == napi_ok) return;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) throw Pending{};
  const napi_extended_error_info* info = nullptr;
  napi_get_last_error_info(env, &info);
  throw Fault("ERR_TORCH_ARGUMENT", info && info->error_message ? info->error_message : "internal: Node-API call failed");
}

template <napi_value (*F)(Call&)>
napi_value entry(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = Call::kMax;
  napi_value args[Call::kMax];
  if (napi_get_cb_info(env, info, &count, args, nullptr, &data) != napi_ok) return nullptr;
  Call call{*static_cast<State*>(data), env, count < Call::kMax ? count : Call::kMax, {}};
  for (size_t i = 0; i < Call::kMax; ++i) call.args[i] = args[i];  // absent ones are `undefined`
  try {
    return F(call);
  } catch (...) {
    rethrow_to_js(call.state, nullptr, nullptr, nullptr);
    return nullptr;
  }
}

struct Method {
  const char* name;
  napi_callback callback;
};
void define(State& state, napi_value exports, std::initializer_list<Method> methods);

// One per concern; each adds its functions to the exports.
void define_tensors(State&, napi_value exports);
void define_dispatch(State&, napi_value exports);
void define_autograd(State&, napi_value exports);
void define_random(State&, napi_value exports);
void define_transfer(State&, napi_value exports);
void define_runtime(State&, napi_value exports);
void define_distributed(State&, napi_value exports);
void define_heartbeat(State&, napi_value exports);
void define_gradient_reducer(State&, napi_value exports);
void define_graphs(State&, napi_value exports);

// JavaScript -> C++
double get_number(napi_env, napi_value);
int64_t get_int(napi_env, napi_value);
bool get_bool(napi_env, napi_value);
std::string get_string(napi_env, napi_value);
std::vector<int64_t> get_ints(napi_env, napi_value);
const at::Tensor& get_tensor(State&, napi_value);
std::vector<at::Tensor> get_tensors(State&, napi_value);

// C++ -> JavaScript
napi_value make_null(napi_env);
napi_value make_undefined(napi_env);
napi_value make_number(napi_env, double);
napi_value make_int(napi_env, int64_t);  // a bigint past 2^53
napi_value make_bool(napi_env, bool);
napi_value make_string(napi_env, const std::string&);
napi_value make_ints(napi_env, at::IntArrayRef);
napi_value make_tensor(State&, at::Tensor);  // a handle, or null for an undefined tensor
void set(napi_env, napi_value object, const char* name, napi_value value);

// Names of data types as TypeScript spells them.
const char* dtype_name(at::ScalarType);
at::ScalarType dtype_from(const std::string& name);
std::string describe(const at::Tensor&);  // float32[2, 3, 8, 8]

}  // namespace pd
