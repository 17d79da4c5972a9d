// Module initialisation, errors, and the small conversions that every file uses.
#include "addon.h"

#include <c10/util/Exception.h>

#include <cmath>

#include "inference_guard.h"
#include "operator.h"

namespace pd {

State::State() = default;
State::~State() = default;

bool Call::given(size_t i) const {
  if (i >= count) return false;
  napi_valuetype type;
  check(env, napi_typeof(env, args[i], &type));
  return type != napi_undefined && type != napi_null;
}

void define(State& state, napi_value exports, std::initializer_list<Method> methods) {
  for (const Method& method : methods) {
    napi_value function;
    check(state.env,
          napi_create_function(state.env, method.name, NAPI_AUTO_LENGTH, method.callback, &state, &function));
    set(state.env, exports, method.name, function);
  }
}

// ---- errors ----

namespace {

// libtorch appends hints, stack traces and source locations: people need the first line.
std::string first_line(const std::string& message) {
  std::string line = message.substr(0, message.find('\n'));
  if (line.rfind("[enforce fail at ", 0) == 0) {  // "[enforce fail at file:line] condition. message"
    const size_t message_start = line.find(". ", line.find(']'));
    if (message_start != std::string::npos) line.erase(0, message_start + 2);
  }
  const size_t source = line.find(" (function operator()");
  if (source != std::string::npos) line.resize(source);
  const size_t raised = line.find("Exception raised from");
  if (raised != std::string::npos) line.resize(raised);
  if (line.size() > 360) {
    const size_t stop = line.find(". ");
    if (stop != std::string::npos && stop < 360) line.resize(stop + 1);
  }
  while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.pop_back();
  return line;
}

void throw_js(State& state, const std::string& code, const char* op, const std::string& message, napi_value arguments) {
  napi_env env = state.env;
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (pending) return;
  napi_value constructor = nullptr;
  if (state.error_class != nullptr) napi_get_reference_value(env, state.error_class, &constructor);
  if (constructor == nullptr) {
    napi_throw_error(env, code.c_str(), message.c_str());
    return;
  }
  napi_value argv[4] = {make_string(env, code), make_string(env, message),
                        op ? make_string(env, op) : make_undefined(env),
                        arguments ? arguments : make_undefined(env)};
  napi_value error;
  if (napi_new_instance(env, constructor, 4, argv, &error) == napi_ok) napi_throw(env, error);
}

}  // namespace

void rethrow_to_js(State& state, const char* op, const std::string* summary, napi_value arguments) noexcept {
  std::string code = "ERR_TORCH";
  std::string message;
  try {
    throw;
  } catch (const Pending&) {
    return;
  } catch (const Fault& fault) {
    code = fault.code;
    message = fault.what();
  } catch (const c10::OutOfMemoryError& error) {
    code = "ERR_TORCH_MEMORY";
    message = first_line(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    message = first_line(error.what_without_backtrace());
    // The CPU allocator reports exhaustion as a plain error.
    for (const char* sign : {"not enough memory", "out of memory", "can't allocate memory"}) {
      if (message.find(sign) != std::string::npos) code = "ERR_TORCH_MEMORY";
    }
  } catch (const std::bad_alloc&) {
    code = "ERR_TORCH_MEMORY";
    message = "out of memory";
  } catch (const std::exception& error) {
    message = first_line(error.what());
  } catch (...) {
    message = "internal: unknown C++ exception";
  }
  try {
    if (op != nullptr) message = std::string(op) + ": " + message;
    if (summary != nullptr && !summary->empty()) message += " (" + *summary + ")";
    throw_js(state, code, op, message, arguments);
  } catch (...) {
    napi_throw_error(state.env, code.c_str(), "internal: an error could not be reported");
  }
}

// ---- JavaScript -> C++ ----

double get_number(napi_env env, napi_value value) {
  double number;
  if (napi_get_value_double(env, value, &number) != napi_ok) throw Fault("ERR_TORCH_ARGUMENT", "expected a number");
  return number;
}

int64_t get_int(napi_env env, napi_value value) {
  double number;
  if (napi_get_value_double(env, value, &number) == napi_ok) {
    if (std::trunc(number) != number || std::fabs(number) > 9007199254740992.0) {
      throw Fault("ERR_TORCH_ARGUMENT", "expected an integer, got " + std::to_string(number));
    }
    return static_cast<int64_t>(number);
  }
  int64_t integer;
  bool lossless;
  if (napi_get_value_bigint_int64(env, value, &integer, &lossless) == napi_ok && lossless) return integer;
  throw Fault("ERR_TORCH_ARGUMENT", "expected an integer");
}

bool get_bool(napi_env env, napi_value value) {
  bool flag;
  if (napi_get_value_bool(env, value, &flag) != napi_ok) throw Fault("ERR_TORCH_ARGUMENT", "expected true or false");
  return flag;
}

std::string get_string(napi_env env, napi_value value) {
  char small[64];
  size_t length;
  if (napi_get_value_string_utf8(env, value, small, sizeof small, &length) != napi_ok) {
    throw Fault("ERR_TORCH_ARGUMENT", "expected a string");
  }
  if (length + 1 < sizeof small) return std::string(small, length);
  check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length));
  std::string text(length, '\0');
  check(env, napi_get_value_string_utf8(env, value, text.data(), length + 1, &length));
  return text;
}

std::vector<int64_t> get_ints(napi_env env, napi_value value) {
  uint32_t length;
  if (napi_get_array_length(env, value, &length) != napi_ok) {
    throw Fault("ERR_TORCH_ARGUMENT", "expected an array of integers");
  }
  std::vector<int64_t> result(length);
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(env, napi_get_element(env, value, i, &element));
    result[i] = get_int(env, element);
  }
  return result;
}

const at::Tensor& get_tensor(State& state, napi_value value) {
  double handle;
  if (napi_get_value_double(state.env, value, &handle) != napi_ok) {
    throw Fault("ERR_TORCH_ARGUMENT", "expected a Tensor");
  }
  return state.table.get(handle);
}

std::vector<at::Tensor> get_tensors(State& state, napi_value value) {
  uint32_t length;
  if (napi_get_array_length(state.env, value, &length) != napi_ok) {
    throw Fault("ERR_TORCH_ARGUMENT", "expected an array of Tensors");
  }
  std::vector<at::Tensor> result;
  result.reserve(length);
  for (uint32_t i = 0; i < length; ++i) {
    napi_value element;
    check(state.env, napi_get_element(state.env, value, i, &element));
    result.push_back(get_tensor(state, element));
  }
  return result;
}

// ---- C++ -> JavaScript ----

napi_value make_null(napi_env env) {
  napi_value result;
  check(env, napi_get_null(env, &result));
  return result;
}
napi_value make_undefined(napi_env env) {
  napi_value result;
  check(env, napi_get_undefined(env, &result));
  return result;
}
napi_value make_number(napi_env env, double number) {
  napi_value result;
  check(env, napi_create_double(env, number, &result));
  return result;
}
napi_value make_int(napi_env env, int64_t number) {
  napi_value result;
  if (number > 9007199254740991LL || number < -9007199254740991LL) {
    check(env, napi_create_bigint_int64(env, number, &result));
  } else {
    check(env, napi_create_int64(env, number, &result));
  }
  return result;
}
napi_value make_bool(napi_env env, bool flag) {
  napi_value result;
  check(env, napi_get_boolean(env, flag, &result));
  return result;
}
napi_value make_string(napi_env env, const std::string& text) {
  napi_value result;
  check(env, napi_create_string_utf8(env, text.data(), text.size(), &result));
  return result;
}
napi_value make_ints(napi_env env, at::IntArrayRef numbers) {
  napi_value array;
  check(env, napi_create_array_with_length(env, numbers.size(), &array));
  for (size_t i = 0; i < numbers.size(); ++i) {
    check(env, napi_set_element(env, array, static_cast<uint32_t>(i), make_int(env, numbers[i])));
  }
  return array;
}
napi_value make_tensor(State& state, at::Tensor tensor) {
  if (!tensor.defined()) return make_null(state.env);
  return make_number(state.env, state.table.put(std::move(tensor)));
}
void set(napi_env env, napi_value object, const char* name, napi_value value) {
  check(env, napi_set_named_property(env, object, name, value));
}

// ---- data types ----

namespace {
struct NamedType {
  const char* name;
  at::ScalarType type;
};
// The first eight are the public DType; the rest only appear when describing foreign tensors.
constexpr NamedType kTypes[] = {
    {"float32", at::ScalarType::Float},           {"float64", at::ScalarType::Double},
    {"float16", at::ScalarType::Half},            {"bfloat16", at::ScalarType::BFloat16},
    {"int64", at::ScalarType::Long},              {"int32", at::ScalarType::Int},
    {"uint8", at::ScalarType::Byte},              {"bool", at::ScalarType::Bool},
    {"int16", at::ScalarType::Short},             {"int8", at::ScalarType::Char},
    {"complex64", at::ScalarType::ComplexFloat},  {"complex128", at::ScalarType::ComplexDouble},
};
}  // namespace

const char* dtype_name(at::ScalarType type) {
  for (const NamedType& known : kTypes) {
    if (known.type == type) return known.name;
  }
  return c10::toString(type);
}

at::ScalarType dtype_from(const std::string& name) {
  for (const NamedType& known : kTypes) {
    if (name == known.name) return known.type;
  }
  throw Fault("ERR_TORCH_ARGUMENT", "unknown dtype '" + name +
                                        "': use float64, float32, float16, bfloat16, int64, int32, uint8 or bool");
}

std::string describe(const at::Tensor& tensor) {
  if (!tensor.defined()) return "undefined";
  std::string text = dtype_name(tensor.scalar_type());
  text += '[';
  bool first = true;
  for (int64_t size : tensor.sizes()) {
    if (!first) text += ", ";
    first = false;
    text += std::to_string(size);
  }
  text += ']';
  if (!tensor.device().is_cpu()) text += " on " + tensor.device().str();
  return text;
}

// ---- initialisation ----

namespace {

napi_value set_error_class(Call& call) {
  if (call.state.error_class != nullptr) napi_delete_reference(call.env, call.state.error_class);
  call.state.error_class = nullptr;
  check(call.env, napi_create_reference(call.env, call.args[0], 1, &call.state.error_class));
  return nullptr;
}

void finalize_state(napi_env, void* data, void*) { delete static_cast<State*>(data); }

napi_value init(napi_env env, napi_value exports) {
  auto* state = new State();
  state->env = env;
  if (napi_set_instance_data(env, state, finalize_state, nullptr) != napi_ok) {
    delete state;
    napi_throw_error(env, "ERR_TORCH", "internal: the addon's state could not be stored");
    return nullptr;
  }
  try {
    define(*state, exports, {{"setErrorClass", entry<set_error_class>}});
    define_tensors(*state, exports);
    define_dispatch(*state, exports);
    define_autograd(*state, exports);
    define_random(*state, exports);
    define_transfer(*state, exports);
    define_runtime(*state, exports);
    define_distributed(*state, exports);
    define_heartbeat(*state, exports);
    define_gradient_reducer(*state, exports);
    define_graphs(*state, exports);
  } catch (...) {
    rethrow_to_js(*state, nullptr, nullptr, nullptr);
    return nullptr;
  }
  return exports;
}

}  // namespace
}  // namespace pd

extern "C" __attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports) {
  return pd::init(env, exports);
}
extern "C" __attribute__((visibility("default"))) int32_t node_api_module_get_api_version_v1() { return NAPI_VERSION; }
