// An operator as JavaScript calls it: libtorch's handle, its arguments by kind, and how the caller's
// argument positions map to this libtorch's schema (which may be older or newer than the one that the
// TypeScript signatures were generated from).
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>

#include <string>
#include <vector>

#include "addon.h"

namespace pd {

enum class Kind {
  Tensor,
  TensorList,
  OptionalTensorList,
  Scalar,
  ScalarList,
  Int,
  IntList,
  Float,
  FloatList,
  Bool,
  BoolList,
  String,
  Device,
  Generator,
  Unsupported,
};

// Integers that have names in TypeScript.
enum class Words { None, DType, Layout, MemoryFormat, Reduction };

struct Argument {
  std::string name;
  std::string type;  // as the schema prints it, for messages
  Kind kind = Kind::Unsupported;
  Words words = Words::None;
  bool optional = false;
  int32_t fixed_size = 0;  // int[2]: a single number stands for both
  bool has_default = false;
  c10::IValue default_value;
  int position = -1;  // in the caller's argument list; -1: the caller does not know it
};

struct Operator {
  State& state;
  std::string name;  // without "aten::", for messages
  c10::OperatorHandle handle;
  std::vector<Argument> arguments;        // schema order
  std::vector<std::string> caller_names;  // caller's order
  std::vector<int> unknown_positions;     // caller positions that this libtorch's schema lacks
  bool writes_in_place = false;
  size_t returns = 0;

  Operator(State& s, std::string n, c10::OperatorHandle h) : state(s), name(std::move(n)), handle(std::move(h)) {}
};

Argument argument_from_schema(const c10::Argument&);
c10::IValue to_ivalue(State&, const Argument&, napi_value);
napi_value from_ivalue(State&, c10::IValue&&);
bool is_nullish(napi_env, napi_value);

// Random generators travel as Node-API externals.
const at::Generator& get_generator(napi_env, napi_value);

}  // namespace pd
