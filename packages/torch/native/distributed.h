// Shared by the files of the distributed part: stores, groups, and promises that other threads settle.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <atomic>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "addon.h"

// Where libtorch was built without c10d, the functions are there and throw. Before 2.0, too: the headers of its
// Gloo group do not agree with the Gloo that Debian 12 has.
#if PD_TORCH_AT_LEAST(2, 0) && defined(__has_include)
#if __has_include(<torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>)
#define PD_HAS_C10D 1
#endif
#endif

#ifdef PD_HAS_C10D
#ifndef USE_C10D_GLOO
#define USE_C10D_GLOO
#endif
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace pd {

using Millis = std::chrono::milliseconds;

// A promise that any thread settles, once. Its JavaScript side keeps the process alive until then.
class Promise : public std::enable_shared_from_this<Promise> {
 public:
  using Result = std::function<napi_value(State&)>;  // runs on the JavaScript thread

  // Makes the promise; the value to return to JavaScript is `value`.
  static std::shared_ptr<Promise> make(State& state, const char* name, napi_value* value);
  void resolve(Result result);
  void reject(const std::string& message);
  // Lets the process end while it is open; from the JavaScript thread.
  void unref() { napi_unref_threadsafe_function(state_->env, function_); }

 private:
  struct Settled;
  static void settle(napi_env, napi_value, void*, void* data);
  void post(Result result, const std::string& failure);

  State* state_ = nullptr;
  napi_deferred deferred_ = nullptr;
  napi_threadsafe_function function_ = nullptr;
  std::atomic<bool> settled_{false};
};

// Runs `work` on a thread of its own (it may block); the promise gets its result.
napi_value on_thread(Call& call, const char* name, std::function<Promise::Result()> work);

struct StoreBox {
  c10::intrusive_ptr<c10d::Store> store;
};

struct GroupBox {
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
  int rank = 0;
  int size = 1;
  // Collectives that are not done; from the JavaScript thread.
  std::vector<std::weak_ptr<Promise>> pending;
  void add(const std::shared_ptr<Promise>& promise);
};

using WorkPtr = decltype(std::declval<c10d::ProcessGroupGloo&>().barrier());

// Settles the promise when all works are done, with undefined.
void when_done(std::vector<WorkPtr> works, std::shared_ptr<Promise> promise);

// An object of ours as JavaScript holds it. Objects are shared: a thread that works with one keeps it.
template <typename T>
napi_value wrap_shared(napi_env env, std::shared_ptr<T> object) {
  auto* owned = new std::shared_ptr<T>(std::move(object));
  napi_value result;
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<T>*>(data); };
  if (napi_create_external(env, owned, finalize, nullptr, &result) != napi_ok) {
    delete owned;
    throw Fault("ERR_TORCH", "internal: an object could not be wrapped");
  }
  return result;
}
template <typename T>
std::shared_ptr<T> unwrap_shared(napi_env env, napi_value value) {
  void* data = nullptr;
  napi_valuetype type;
  check(env, napi_typeof(env, value, &type));
  if (type != napi_external || napi_get_value_external(env, value, &data) != napi_ok || data == nullptr) {
    throw Fault("ERR_TORCH_ARGUMENT", "internal: expected an object of the distributed part");
  }
  return *static_cast<std::shared_ptr<T>*>(data);
}

c10::intrusive_ptr<c10d::Store> connect_store(const std::string& host, int port, bool is_server, Millis timeout);
// First line of what libtorch says, without its source locations.
std::string message_of(std::exception_ptr failure);
std::string text_of(const std::vector<uint8_t>& bytes);
std::vector<uint8_t> bytes_of(const std::string& text);

}  // namespace pd
#endif
