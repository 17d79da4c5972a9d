// Random generators: libtorch's own, per device, with their whole state readable as bytes so that a
// training run can resume exactly.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/ops/empty.h>

#include <cstring>
#include <mutex>

#include "operator.h"

namespace pd {

namespace {

void finalize_generator(napi_env, void* data, void*) { delete static_cast<at::Generator*>(data); }

at::Generator& generator(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_valuetype type;
  check(env, napi_typeof(env, value, &type));
  if (type != napi_external || napi_get_value_external(env, value, &data) != napi_ok || data == nullptr) {
    throw Fault("ERR_TORCH_ARGUMENT", "expected a Generator");
  }
  return *static_cast<at::Generator*>(data);
}

at::Generator default_generator(const c10::Device& device) {
  if (device.is_cpu()) return at::detail::getDefaultCPUGenerator();
  return at::globalContext().defaultGenerator(device);
}

uint64_t get_seed(napi_env env, napi_value value) {
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok) {
    if (!(number >= 0) || number > 9007199254740992.0 || number != static_cast<double>(static_cast<uint64_t>(number))) {
      throw Fault("ERR_TORCH_ARGUMENT", "a seed must be a non-negative integer (use a bigint above 2^53)");
    }
    return static_cast<uint64_t>(number);
  }
  uint64_t seed;
  bool lossless;
  if (napi_get_value_bigint_uint64(env, value, &seed, &lossless) == napi_ok && lossless) return seed;
  throw Fault("ERR_TORCH_ARGUMENT", "a seed must be a non-negative integer below 2^64");
}

napi_value wrap(napi_env env, at::Generator source) {
  auto* owned = new at::Generator(std::move(source));
  napi_value result;
  if (napi_create_external(env, owned, finalize_generator, nullptr, &result) != napi_ok) {
    delete owned;
    throw Fault("ERR_TORCH", "internal: a generator could not be wrapped");
  }
  return result;
}

// createGenerator(device): independent of the default one (a copy with a life of its own).
napi_value create_generator(Call& call) {
  return wrap(call.env, default_generator(c10::Device(get_string(call.env, call.args[0]))).clone());
}
napi_value get_default_generator(Call& call) {
  return wrap(call.env, default_generator(c10::Device(get_string(call.env, call.args[0]))));
}

napi_value seed_generator(Call& call) {
  at::Generator& target = generator(call.env, call.args[0]);
  const uint64_t seed = get_seed(call.env, call.args[1]);
  std::lock_guard<std::mutex> lock(target.mutex());
  target.set_current_seed(seed);
  return nullptr;
}
napi_value generator_seed(Call& call) {
  at::Generator& source = generator(call.env, call.args[0]);
  std::lock_guard<std::mutex> lock(source.mutex());
  napi_value result;
  check(call.env, napi_create_bigint_uint64(call.env, source.current_seed(), &result));
  return result;
}
napi_value generator_device(Call& call) {
  return make_string(call.env, generator(call.env, call.args[0]).device().str());
}

napi_value get_state(Call& call) {
  at::Generator& source = generator(call.env, call.args[0]);
  at::Tensor state;
  {
    std::lock_guard<std::mutex> lock(source.mutex());
    state = source.get_state();
  }
  state = state.contiguous();
  const size_t bytes = static_cast<size_t>(state.numel()) * state.element_size();
  napi_value buffer;
  void* data;
  check(call.env, napi_create_arraybuffer(call.env, bytes, &data, &buffer));
  std::memcpy(data, state.data_ptr(), bytes);
  napi_value result;
  check(call.env, napi_create_typedarray(call.env, napi_uint8_array, bytes, buffer, 0, &result));
  return result;
}

napi_value set_state(Call& call) {
  at::Generator& target = generator(call.env, call.args[0]);
  napi_typedarray_type type;
  size_t length;
  void* data;
  if (napi_get_typedarray_info(call.env, call.args[1], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    throw Fault("ERR_TORCH_ARGUMENT", "a generator's state must be a Uint8Array");
  }
  at::Tensor state = at::empty({static_cast<int64_t>(length)}, at::TensorOptions().dtype(at::kByte));
  std::memcpy(state.data_ptr(), data, length);
  std::lock_guard<std::mutex> lock(target.mutex());
  target.set_state(state);
  return nullptr;
}

// manualSeed(seed): the default generators of every device.
napi_value manual_seed(Call& call) {
  at::manual_seed(get_seed(call.env, call.args[0]));
  return nullptr;
}

}  // namespace

const at::Generator& get_generator(napi_env env, napi_value value) { return generator(env, value); }

void define_random(State& state, napi_value exports) {
  define(state, exports,
         {{"createGenerator", entry<create_generator>},
          {"defaultGenerator", entry<get_default_generator>},
          {"seedGenerator", entry<seed_generator>},
          {"generatorSeed", entry<generator_seed>},
          {"generatorDevice", entry<generator_device>},
          {"getGeneratorState", entry<get_state>},
          {"setGeneratorState", entry<set_state>},
          {"manualSeed", entry<manual_seed>}});
}

}  // namespace pd
