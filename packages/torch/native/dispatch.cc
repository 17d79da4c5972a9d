// Operators through libtorch's dispatcher, driven by their schemas: looked up by name once, called boxed.
// JavaScript gets one function per operator, with the Operator as its data pointer.
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/stack.h>

#include <sstream>

#include "operator.h"

namespace pd {

namespace {

constexpr size_t kMaxArguments = 32;

// For messages: every tensor argument with its type and shape.
void summarize(Operator& op, size_t count, napi_value* args, std::string& text, napi_value& shapes) {
  napi_env env = op.state.env;
  napi_create_array(env, &shapes);
  uint32_t index = 0;
  auto add = [&](const std::string& name, napi_value value) {
    double handle;
    if (napi_get_value_double(env, value, &handle) != napi_ok) return;
    std::string description;
    try {
      const at::Tensor& tensor = op.state.table.get(handle);
      description = describe(tensor);
      napi_value object;
      napi_create_object(env, &object);
      set(env, object, "name", make_string(env, name));
      set(env, object, "dtype", make_string(env, dtype_name(tensor.scalar_type())));
      set(env, object, "shape", make_ints(env, tensor.sizes()));
      napi_set_element(env, shapes, index++, object);
    } catch (const Fault&) {
      description = "disposed";
    }
    if (!text.empty()) text += ", ";
    text += name + ": " + description;
  };
  for (const Argument& argument : op.arguments) {
    if (argument.position < 0 || static_cast<size_t>(argument.position) >= count) continue;
    napi_value value = args[argument.position];
    if (argument.kind == Kind::Tensor) {
      add(argument.name, value);
    } else if (argument.kind == Kind::TensorList || argument.kind == Kind::OptionalTensorList) {
      uint32_t length = 0;
      if (napi_get_array_length(env, value, &length) != napi_ok) continue;
      for (uint32_t i = 0; i < length && i < 4; ++i) {
        napi_value element;
        if (napi_get_element(env, value, i, &element) == napi_ok) {
          add(argument.name + "[" + std::to_string(i) + "]", element);
        }
      }
      if (length > 4) text += ", … " + std::to_string(length) + " in all";
    }
  }
}

napi_value call(napi_env env, napi_callback_info info) {
  void* data = nullptr;
  size_t count = kMaxArguments;
  napi_value args[kMaxArguments];
  if (napi_get_cb_info(env, info, &count, args, nullptr, &data) != napi_ok) return nullptr;
  Operator& op = *static_cast<Operator*>(data);
  State& state = op.state;
  try {
    torch::jit::Stack stack;
    stack.reserve(op.arguments.size() > op.returns ? op.arguments.size() : op.returns);
    for (const Argument& argument : op.arguments) {
      if (argument.position >= 0 && static_cast<size_t>(argument.position) < count) {
        stack.push_back(to_ivalue(state, argument, args[argument.position]));
      } else if (argument.has_default) {
        stack.push_back(argument.default_value);
      } else if (argument.optional) {
        stack.emplace_back();
      } else {
        throw Fault("ERR_TORCH_ARGUMENT", "argument '" + argument.name + "' (" + argument.type + ") is missing");
      }
    }
    for (int position : op.unknown_positions) {
      if (static_cast<size_t>(position) < count && !is_nullish(env, args[position])) {
        throw Fault("ERR_TORCH_ARGUMENT", "libtorch " TORCH_VERSION " has no argument '" +
                                              op.caller_names[position] + "' here");
      }
    }
    op.handle.callBoxed(stack);
    if (op.writes_in_place || stack.empty()) return nullptr;
    if (stack.size() == 1) return from_ivalue(state, std::move(stack[0]));
    napi_value array;
    check(env, napi_create_array_with_length(env, stack.size(), &array));
    for (size_t i = 0; i < stack.size(); ++i) {
      check(env, napi_set_element(env, array, static_cast<uint32_t>(i), from_ivalue(state, std::move(stack[i]))));
    }
    return array;
  } catch (...) {
    std::string summary;
    napi_value shapes = nullptr;
    try {
      summarize(op, count < kMaxArguments ? count : kMaxArguments, args, summary, shapes);
    } catch (...) {
      // The original error matters more.
    }
    rethrow_to_js(state, op.name.c_str(), &summary, shapes);
    return nullptr;
  }
}

std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  std::istringstream stream(text);
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// Operators of ours stand in a namespace of their own (`patch_diffusion::…`); a name without one is libtorch's.
std::string full_name(const std::string& name) {
  return name.find("::") == std::string::npos ? "aten::" + name : name;
}

auto find(const std::string& name, const std::string& overload) {
  return c10::Dispatcher::singleton().findSchema({full_name(name), overload});
}

// bindOp(name, overload, "argument names in the caller's order") -> function, or null when absent.
napi_value bind_op(Call& call_info) {
  napi_env env = call_info.env;
  State& state = call_info.state;
  const std::string name = get_string(env, call_info.args[0]);
  const std::string overload = get_string(env, call_info.args[1]);
  auto handle = find(name, overload);
  if (!handle) return make_null(env);
  auto op = std::make_unique<Operator>(state, name, *handle);
  op->caller_names = split_words(get_string(env, call_info.args[2]));
  const c10::FunctionSchema& schema = handle->schema();
  std::vector<bool> known(op->caller_names.size(), false);
  for (const c10::Argument& source : schema.arguments()) {
    Argument argument = argument_from_schema(source);
    for (size_t i = 0; i < op->caller_names.size(); ++i) {
      if (op->caller_names[i] == argument.name) {
        argument.position = static_cast<int>(i);
        known[i] = true;
      }
    }
    op->arguments.push_back(std::move(argument));
  }
  for (size_t i = 0; i < known.size(); ++i) {
    if (!known[i]) op->unknown_positions.push_back(static_cast<int>(i));
  }
  op->returns = schema.returns().size();
  for (const c10::Argument& result : schema.returns()) {
    if (result.alias_info() && result.alias_info()->isWrite()) op->writes_in_place = true;
  }
  if (op->caller_names.size() > kMaxArguments) throw Fault("ERR_TORCH", "internal: too many arguments");
  napi_value function;
  check(env, napi_create_function(env, name.c_str(), NAPI_AUTO_LENGTH, call, op.get(), &function));
  state.operators.push_back(std::move(op));
  return function;
}

bool has_kernel(const c10::OperatorHandle& op, c10::DeviceType device) {
  c10::DispatchKey key = c10::DispatchKey::CPU;
  if (device == c10::DeviceType::CUDA) key = c10::DispatchKey::CUDA;
  if (device == c10::DeviceType::MPS) key = c10::DispatchKey::MPS;
  return op.hasComputedKernelForDispatchKey(key);
}

// hasOp(name, overload?, device?): is there such an operator (any overload without one), with a kernel for
// that kind of device? Operators composed of others have no kernel of their own and count for all devices.
napi_value has_op(Call& call_info) {
  napi_env env = call_info.env;
  const std::string name = get_string(env, call_info.args[0]);
  std::vector<c10::OperatorName> candidates;
  if (call_info.given(1)) {
    candidates.emplace_back("aten::" + name, get_string(env, call_info.args[1]));
  } else {
    for (const c10::OperatorName& known : c10::Dispatcher::singleton().getAllOpNames()) {
      if (known.name == "aten::" + name) candidates.push_back(known);
    }
  }
  for (const c10::OperatorName& candidate : candidates) {
    auto handle = c10::Dispatcher::singleton().findSchema(candidate);
    if (!handle) continue;
    if (!call_info.given(2) || has_kernel(*handle, c10::Device(get_string(env, call_info.args[2])).type())) {
      return make_bool(env, true);
    }
  }
  return make_bool(env, false);
}

// schemas(): every aten operator's schema as text; the generator of the TypeScript signatures reads it.
napi_value schemas(Call& call_info) {
  napi_env env = call_info.env;
  napi_value array;
  check(env, napi_create_array(env, &array));
  uint32_t index = 0;
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (name.name.rfind("aten::", 0) != 0) continue;
    auto handle = c10::Dispatcher::singleton().findSchema(name);
    if (!handle) continue;
    std::ostringstream text;
    text << handle->schema();
    check(env, napi_set_element(env, array, index++, make_string(env, text.str())));
  }
  return array;
}

}  // namespace

void define_dispatch(State& state, napi_value exports) {
  define(state, exports, {{"bindOp", entry<bind_op>}, {"hasOp", entry<has_op>}, {"schemas", entry<schemas>}});
}

}  // namespace pd
