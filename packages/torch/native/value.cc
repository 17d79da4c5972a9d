// JavaScript values to libtorch's and back, by the schema's argument kinds.
#include <ATen/core/Generator.h>
#include <ATen/core/List.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/jit_type.h>
#include <c10/core/Scalar.h>

#include <cmath>
#include <optional>

#include "operator.h"

namespace pd {

bool is_nullish(napi_env env, napi_value value) {
  napi_valuetype type;
  check(env, napi_typeof(env, value, &type));
  return type == napi_undefined || type == napi_null;
}

namespace {

[[noreturn]] void wrong(const Argument& argument, const char* expected) {
  throw Fault("ERR_TORCH_ARGUMENT", "argument '" + argument.name + "' must be " + expected);
}

Kind kind_of(const c10::TypePtr& type, bool& optional) {
  switch (type->kind()) {
    case c10::TypeKind::OptionalType: {
      optional = true;
      bool ignored = false;
      return kind_of(type->castRaw<c10::OptionalType>()->getElementType(), ignored);
    }
    case c10::TypeKind::TensorType: return Kind::Tensor;
    case c10::TypeKind::NumberType: return Kind::Scalar;
    case c10::TypeKind::IntType: return Kind::Int;
    case c10::TypeKind::SymIntType: return Kind::Int;
    case c10::TypeKind::FloatType: return Kind::Float;
    case c10::TypeKind::BoolType: return Kind::Bool;
    case c10::TypeKind::StringType: return Kind::String;
    case c10::TypeKind::DeviceObjType: return Kind::Device;
    case c10::TypeKind::GeneratorType: return Kind::Generator;
    case c10::TypeKind::ListType: {
      bool element_optional = false;
      switch (kind_of(type->castRaw<c10::ListType>()->getElementType(), element_optional)) {
        case Kind::Tensor: return element_optional ? Kind::OptionalTensorList : Kind::TensorList;
        case Kind::Scalar: return Kind::ScalarList;
        case Kind::Int: return Kind::IntList;
        case Kind::Float: return Kind::FloatList;
        case Kind::Bool: return Kind::BoolList;
        default: return Kind::Unsupported;
      }
    }
    default: return Kind::Unsupported;
  }
}

int64_t word(const Argument& argument, const std::string& text) {
  switch (argument.words) {
    case Words::DType: return static_cast<int64_t>(dtype_from(text));
    case Words::Layout:
      if (text == "strided") return 0;
      break;
    case Words::MemoryFormat:
      if (text == "contiguous") return static_cast<int64_t>(at::MemoryFormat::Contiguous);
      if (text == "preserve") return static_cast<int64_t>(at::MemoryFormat::Preserve);
      if (text == "channelsLast") return static_cast<int64_t>(at::MemoryFormat::ChannelsLast);
      break;
    case Words::Reduction:
      if (text == "none") return 0;
      if (text == "mean") return 1;
      if (text == "sum") return 2;
      break;
    case Words::None: wrong(argument, "an integer");
  }
  throw Fault("ERR_TORCH_ARGUMENT", "argument '" + argument.name + "' does not know '" + text + "'");
}

int64_t to_int(State& state, const Argument& argument, napi_value value) {
  double number;
  if (napi_get_value_double(state.env, value, &number) == napi_ok) {
    if (std::trunc(number) != number || std::fabs(number) > 9007199254740992.0) wrong(argument, "an integer");
    return static_cast<int64_t>(number);
  }
  napi_valuetype type;
  check(state.env, napi_typeof(state.env, value, &type));
  if (type == napi_string) return word(argument, get_string(state.env, value));
  int64_t integer;
  bool lossless;
  if (napi_get_value_bigint_int64(state.env, value, &integer, &lossless) == napi_ok && lossless) return integer;
  wrong(argument, "an integer");
}

// Numbers without a fraction become integer scalars, as Python's literals would, so that integer tensors
// stay integers; float tensors do not care. Negative zero and very large values stay floating.
at::Scalar to_scalar(State& state, const Argument& argument, napi_value value) {
  double number;
  if (napi_get_value_double(state.env, value, &number) == napi_ok) {
    if (std::trunc(number) == number && std::fabs(number) <= 9007199254740992.0 &&
        !(number == 0 && std::signbit(number))) {
      return at::Scalar(static_cast<int64_t>(number));
    }
    return at::Scalar(number);
  }
  bool flag;
  if (napi_get_value_bool(state.env, value, &flag) == napi_ok) return at::Scalar(flag);
  int64_t integer;
  bool lossless;
  if (napi_get_value_bigint_int64(state.env, value, &integer, &lossless) == napi_ok && lossless) {
    return at::Scalar(integer);
  }
  wrong(argument, "a number");
}

// Closes a handle scope on every way out: Node ends the process over one that stays open.
class HandleScope {
 public:
  explicit HandleScope(napi_env env) : env_(env) { check(env, napi_open_handle_scope(env, &scope_)); }
  ~HandleScope() { napi_close_handle_scope(env_, scope_); }
  HandleScope(const HandleScope&) = delete;
  HandleScope& operator=(const HandleScope&) = delete;

 private:
  napi_env env_;
  napi_handle_scope scope_ = nullptr;
};

template <typename F>
void each(State& state, const Argument& argument, napi_value array, const char* expected, F&& visit) {
  uint32_t length;
  if (napi_get_array_length(state.env, array, &length) != napi_ok) wrong(argument, expected);
  for (uint32_t i = 0; i < length; ++i) {
    // Long lists (foreach operators) must not pile up handles for the whole call.
    std::optional<HandleScope> scope;
    if (length > 64) scope.emplace(state.env);
    napi_value element;
    check(state.env, napi_get_element(state.env, array, i, &element));
    visit(element);
  }
}

bool is_array(napi_env env, napi_value value) {
  bool result = false;
  check(env, napi_is_array(env, value, &result));
  return result;
}

}  // namespace

Argument argument_from_schema(const c10::Argument& source) {
  Argument argument;
  argument.name = source.name();
  argument.type = source.type()->str();
  argument.kind = kind_of(source.type(), argument.optional);
  if (source.N()) argument.fixed_size = *source.N();
  if (source.default_value()) {
    argument.has_default = true;
    argument.default_value = *source.default_value();
  }
  if (argument.name == "dtype") argument.words = Words::DType;
  if (argument.name == "layout") argument.words = Words::Layout;
  if (argument.name == "memory_format") argument.words = Words::MemoryFormat;
  if (argument.name == "reduction") argument.words = Words::Reduction;
  return argument;
}

c10::IValue to_ivalue(State& state, const Argument& argument, napi_value value) {
  napi_env env = state.env;
  // The commonest case first: a handle needs no look at its type.
  if (argument.kind == Kind::Tensor) {
    double handle;
    if (napi_get_value_double(env, value, &handle) == napi_ok) return state.table.get(handle);
  }
  if (is_nullish(env, value)) {
    if (argument.has_default) return argument.default_value;
    if (argument.optional) return c10::IValue();
    throw Fault("ERR_TORCH_ARGUMENT", "argument '" + argument.name + "' (" + argument.type + ") is missing");
  }
  switch (argument.kind) {
    case Kind::Tensor: wrong(argument, "a Tensor");
    case Kind::TensorList: {
      c10::List<at::Tensor> list;
      each(state, argument, value, "an array of Tensors",
           [&](napi_value element) { list.push_back(get_tensor(state, element)); });
      return list;
    }
    case Kind::OptionalTensorList: {
      c10::impl::GenericList list(c10::OptionalType::create(c10::TensorType::get()));
      each(state, argument, value, "an array of Tensors or nulls", [&](napi_value element) {
        list.push_back(is_nullish(env, element) ? c10::IValue() : c10::IValue(get_tensor(state, element)));
      });
      return list;
    }
    case Kind::Scalar: return to_scalar(state, argument, value);
    case Kind::ScalarList: {
      c10::impl::GenericList list(c10::NumberType::get());
      each(state, argument, value, "an array of numbers",
           [&](napi_value element) { list.push_back(c10::IValue(to_scalar(state, argument, element))); });
      return list;
    }
    case Kind::Int: return to_int(state, argument, value);
    case Kind::IntList: {
      if (!is_array(env, value)) {
        if (argument.fixed_size == 0) wrong(argument, "an array of integers");
        const int64_t number = to_int(state, argument, value);
        return c10::IValue(std::vector<int64_t>(argument.fixed_size, number));
      }
      std::vector<int64_t> list;
      each(state, argument, value, "an array of integers",
           [&](napi_value element) { list.push_back(to_int(state, argument, element)); });
      return c10::IValue(std::move(list));
    }
    case Kind::Float: {
      double number;
      if (napi_get_value_double(env, value, &number) != napi_ok) wrong(argument, "a number");
      return number;
    }
    case Kind::FloatList: {
      std::vector<double> list;
      each(state, argument, value, "an array of numbers",
           [&](napi_value element) { list.push_back(get_number(env, element)); });
      return c10::IValue(std::move(list));
    }
    case Kind::Bool: {
      bool flag;
      if (napi_get_value_bool(env, value, &flag) != napi_ok) wrong(argument, "true or false");
      return flag;
    }
    case Kind::BoolList: {
      c10::List<bool> list;
      each(state, argument, value, "an array of booleans",
           [&](napi_value element) { list.push_back(get_bool(env, element)); });
      return list;
    }
    case Kind::String: return get_string(env, value);
    case Kind::Device: return c10::Device(get_string(env, value));
    case Kind::Generator: return get_generator(env, value);
    case Kind::Unsupported: break;
  }
  throw Fault("ERR_TORCH_ARGUMENT",
              "internal: argument '" + argument.name + "' of type " + argument.type + " is not supported");
}

napi_value from_ivalue(State& state, c10::IValue&& value) {
  napi_env env = state.env;
  if (value.isTensor()) return make_tensor(state, std::move(value).toTensor());
  if (value.isNone()) return make_null(env);
  if (value.isDouble()) return make_number(env, value.toDouble());
  if (value.isInt()) return make_int(env, value.toInt());
  if (value.isBool()) return make_bool(env, value.toBool());
  if (value.isString()) return make_string(env, value.toStringRef());
  if (value.isTensorList()) {
    const auto list = value.toTensorList();
    napi_value array;
    check(env, napi_create_array_with_length(env, list.size(), &array));
    for (size_t i = 0; i < list.size(); ++i) {
      check(env, napi_set_element(env, array, static_cast<uint32_t>(i), make_tensor(state, list.get(i))));
    }
    return array;
  }
  if (value.isIntList()) return make_ints(env, value.toIntVector());
  throw Fault("ERR_TORCH", "internal: results of type " + value.tagKind() + " are not supported");
}

}  // namespace pd
