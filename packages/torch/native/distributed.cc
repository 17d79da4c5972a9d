// Several processes: libtorch's TCPStore (where they meet) and its process group over Gloo (collectives).
//
// Everything that may wait for another process returns a promise. Waiting for a connection takes a thread; a collective
// is waited for by Gloo's own threads, so that JavaScript goes on.
#include "distributed.h"

#include <c10/util/Logging.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace pd {

#ifdef PD_HAS_C10D

// ---- promises ----

struct Promise::Settled {
  std::shared_ptr<Promise> promise;
  Result result;
  std::string failure;  // where there is no result
};

std::shared_ptr<Promise> Promise::make(State& state, const char* name, napi_value* value) {
  auto promise = std::make_shared<Promise>();
  promise->state_ = &state;
  check(state.env, napi_create_promise(state.env, &promise->deferred_, value));
  check(state.env, napi_create_threadsafe_function(state.env, nullptr, nullptr, make_string(state.env, name), 0, 1,
                                                   nullptr, nullptr, nullptr, settle, &promise->function_));
  return promise;
}

void Promise::resolve(Result result) { post(std::move(result), ""); }
void Promise::reject(const std::string& message) { post(nullptr, message); }

void Promise::post(Result result, const std::string& failure) {
  if (settled_.exchange(true)) return;
  auto settled = std::make_unique<Settled>(Settled{shared_from_this(), std::move(result), failure});
  // Refused only while the environment goes down: then nobody waits any more.
  if (napi_call_threadsafe_function(function_, settled.get(), napi_tsfn_blocking) == napi_ok) settled.release();
}

void Promise::settle(napi_env env, napi_value, void*, void* data) {
  std::unique_ptr<Settled> settled(static_cast<Settled*>(data));
  if (env == nullptr) return;
  Promise& promise = *settled->promise;
  try {
    if (!settled->result) throw Fault("ERR_TORCH", settled->failure);
    check(env, napi_resolve_deferred(env, promise.deferred_, settled->result(*promise.state_)));
  } catch (...) {
    rethrow_to_js(*promise.state_, nullptr, nullptr, nullptr);
    napi_value error = nullptr;
    napi_get_and_clear_last_exception(env, &error);
    napi_reject_deferred(env, promise.deferred_, error);
  }
  napi_release_threadsafe_function(promise.function_, napi_tsfn_release);
}

std::string message_of(std::exception_ptr failure) {
  std::string text = "unknown failure";
  try {
    std::rethrow_exception(failure);
  } catch (const c10::Error& error) {
    text = error.what_without_backtrace();
  } catch (const std::exception& error) {
    text = error.what();
  } catch (...) {
  }
  text = text.substr(0, text.find('\n'));
  if (text.rfind('[', 0) == 0) {  // "[/…/gloo/transport/tcp/pair.cc:81] message"
    const size_t end = text.find("] ");
    if (end != std::string::npos) text.erase(0, end + 2);
  }
  return text.substr(0, text.find("Exception raised from"));
}

std::string text_of(const std::vector<uint8_t>& bytes) { return std::string(bytes.begin(), bytes.end()); }
std::vector<uint8_t> bytes_of(const std::string& text) { return std::vector<uint8_t>(text.begin(), text.end()); }

namespace {

napi_value nothing(State& state) { return make_undefined(state.env); }

}  // namespace

napi_value on_thread(Call& call, const char* name, std::function<Promise::Result()> work) {
  napi_value value;
  const auto promise = Promise::make(call.state, name, &value);
  std::thread([promise, work = std::move(work)] {
    try {
      promise->resolve(work());
    } catch (...) {
      promise->reject(message_of(std::current_exception()));
    }
  }).detach();
  return value;
}

void when_done(std::vector<WorkPtr> works, std::shared_ptr<Promise> promise) {
  if (works.empty()) return promise->resolve(nothing);
  struct Waiting {
    std::vector<WorkPtr> works;
    std::atomic<size_t> left;
  };
  auto waiting = std::make_shared<Waiting>();
  waiting->left = works.size();
  waiting->works = std::move(works);
  for (const WorkPtr& work : waiting->works) {
    auto future = work->getFuture();
    // A raw pointer: the future belongs to the work, which `waiting` keeps.
    auto* done = future.get();
    future->addCallback([waiting, promise, done](auto&) {
      if (done->hasError()) promise->reject(message_of(done->exception_ptr()));
      if (--waiting->left > 0) return;
      // On a GPU the tensors are written by streams of Gloo's; the current stream waits for them.
      promise->resolve([waiting](State& state) {
        for (const WorkPtr& finished : waiting->works) finished->synchronize();
        return nothing(state);
      });
    });
  }
}

namespace {

// libtorch logs connection failures with their stack, besides throwing them. Callers word them.
void be_quiet() {
#ifndef C10_USE_GLOG
  constexpr int kFatal = 3;
  if (std::getenv("TORCH_CPP_LOG_LEVEL") == nullptr) FLAGS_caffe2_log_level = kFatal;
#endif
}

}  // namespace

void GroupBox::add(const std::shared_ptr<Promise>& promise) {
  pending.erase(std::remove_if(pending.begin(), pending.end(), [](const auto& old) { return old.expired(); }),
                pending.end());
  pending.push_back(promise);
}

c10::intrusive_ptr<c10d::Store> connect_store(const std::string& host, int port, bool is_server, Millis timeout) {
  be_quiet();
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(port);
  options.isServer = is_server;
  options.waitWorkers = false;
  options.timeout = timeout;
  return c10::make_intrusive<c10d::TCPStore>(host, options);
}

namespace {

Millis get_millis(Call& call, size_t i) { return Millis(get_int(call.env, call.args[i])); }

// ---- the store ----

// openStore(host, port, isServer, prefix, timeoutMs) -> Promise<store>
napi_value open_store(Call& call) {
  const std::string host = get_string(call.env, call.args[0]);
  const int port = static_cast<int>(get_int(call.env, call.args[1]));
  const bool is_server = get_bool(call.env, call.args[2]);
  const std::string prefix = get_string(call.env, call.args[3]);
  const Millis timeout = get_millis(call, 4);
  return on_thread(call, "torch.openStore", [=]() -> Promise::Result {
    auto box = std::make_shared<StoreBox>();
    box->store = c10::make_intrusive<c10d::PrefixStore>(prefix, connect_store(host, port, is_server, timeout));
    return [box](State& state) { return wrap_shared(state.env, box); };
  });
}

// storeSet(store, key, text) -> Promise
napi_value store_set(Call& call) {
  const auto box = unwrap_shared<StoreBox>(call.env, call.args[0]);
  const std::string key = get_string(call.env, call.args[1]);
  const std::string text = get_string(call.env, call.args[2]);
  return on_thread(call, "torch.storeSet", [=]() -> Promise::Result {
    box->store->set(key, bytes_of(text));
    return nothing;
  });
}

// storeAdd(store, key, amount) -> Promise<the sum>
napi_value store_add(Call& call) {
  const auto box = unwrap_shared<StoreBox>(call.env, call.args[0]);
  const std::string key = get_string(call.env, call.args[1]);
  const int64_t amount = get_int(call.env, call.args[2]);
  return on_thread(call, "torch.storeAdd", [=]() -> Promise::Result {
    const int64_t sum = box->store->add(key, amount);
    return [sum](State& state) { return make_int(state.env, sum); };
  });
}

// storeGet(store, key, timeoutMs) -> Promise<text | null>: null when nobody sets it in that time
napi_value store_get(Call& call) {
  const auto box = unwrap_shared<StoreBox>(call.env, call.args[0]);
  const std::string key = get_string(call.env, call.args[1]);
  const Millis timeout = get_millis(call, 2);
  return on_thread(call, "torch.storeGet", [=]() -> Promise::Result {
    const auto end = std::chrono::steady_clock::now() + timeout;
    // Asked again and again: waiting in the store would shut out other calls of this connection.
    while (!box->store->check({key})) {
      if (std::chrono::steady_clock::now() >= end) return [](State& state) { return make_null(state.env); };
      std::this_thread::sleep_for(Millis(10));
    }
    const std::string text = text_of(box->store->get(key));
    return [text](State& state) { return make_string(state.env, text); };
  });
}

// ---- the group ----

// openGroup(store, rank, size, address, interface, timeoutMs) -> Promise<group>; address or interface may be empty
napi_value open_group(Call& call) {
  const auto box = unwrap_shared<StoreBox>(call.env, call.args[0]);
  const int rank = static_cast<int>(get_int(call.env, call.args[1]));
  const int size = static_cast<int>(get_int(call.env, call.args[2]));
  const std::string address = get_string(call.env, call.args[3]);
  const std::string interface = get_string(call.env, call.args[4]);
  const Millis timeout = get_millis(call, 5);
  return on_thread(call, "torch.openGroup", [=]() -> Promise::Result {
    using Gloo = c10d::ProcessGroupGloo;
    auto options = Gloo::Options::create(timeout);
    options->threads = 2;
    options->devices.push_back(!interface.empty() ? Gloo::createDeviceForInterface(interface)
                               : !address.empty() ? Gloo::createDeviceForHostname(address)
                                                  : Gloo::createDefaultDevice());
    auto group = std::make_shared<GroupBox>();
    group->rank = rank;
    group->size = size;
    group->group = c10::make_intrusive<Gloo>(box->store, rank, size, options);
    return [group](State& state) { return wrap_shared(state.env, group); };
  });
}

// closeGroup(group, isOrderly): without order its threads may wait for a rank that is gone, for ever; then they are left.
napi_value close_group(Call& call) {
  auto box = unwrap_shared<GroupBox>(call.env, call.args[0]);
  const bool is_orderly = get_bool(call.env, call.args[1]);
  if (is_orderly) {
    box->group.reset();
    return nullptr;
  }
  box->group.release();
  for (const auto& pending : box->pending) {
    if (auto promise = pending.lock()) promise->reject("the process group was given up");
  }
  return nullptr;
}


// Starts a collective and returns the promise of its end.
template <typename Start>
napi_value collective(Call& call, const char* name, Start start) {
  const auto box = unwrap_shared<GroupBox>(call.env, call.args[0]);
  if (!box->group) throw Fault("ERR_TORCH_DISPOSED", "the process group was closed");
  napi_value value;
  const auto promise = Promise::make(call.state, name, &value);
  box->add(promise);
  try {
    when_done({start(*box->group)}, promise);
  } catch (...) {
    promise->reject(message_of(std::current_exception()));
  }
  return value;
}

// allReduce(group, tensor) -> Promise: the sum over all ranks, in place
napi_value all_reduce(Call& call) {
  std::vector<at::Tensor> tensors{get_tensor(call.state, call.args[1])};
  return collective(call, "torch.allReduce", [&](auto& group) { return group.allreduce(tensors); });
}

// broadcast(group, tensor, root) -> Promise: rank root's values, in place
napi_value broadcast(Call& call) {
  std::vector<at::Tensor> tensors{get_tensor(call.state, call.args[1])};
  c10d::BroadcastOptions options;
  options.rootRank = get_int(call.env, call.args[2]);
  return collective(call, "torch.broadcast", [&](auto& group) { return group.broadcast(tensors, options); });
}

// allGather(group, outputs, tensor) -> Promise: one output for each rank, of the tensor's shape
napi_value all_gather(Call& call) {
  std::vector<std::vector<at::Tensor>> outputs{get_tensors(call.state, call.args[1])};
  std::vector<at::Tensor> inputs{get_tensor(call.state, call.args[2])};
  return collective(call, "torch.allGather", [&](auto& group) { return group.allgather(outputs, inputs); });
}

napi_value barrier(Call& call) {
  return collective(call, "torch.barrier", [](auto& group) { return group.barrier(); });
}

napi_value has_distributed(Call& call) { return make_bool(call.env, true); }

}  // namespace

void define_distributed(State& state, napi_value exports) {
  define(state, exports,
         {{"hasDistributed", entry<has_distributed>},
          {"openStore", entry<open_store>},
          {"storeSet", entry<store_set>},
          {"storeAdd", entry<store_add>},
          {"storeGet", entry<store_get>},
          {"openGroup", entry<open_group>},
          {"closeGroup", entry<close_group>},
          {"allReduce", entry<all_reduce>},
          {"broadcast", entry<broadcast>},
          {"allGather", entry<all_gather>},
          {"barrier", entry<barrier>}});
}

#else

namespace {
napi_value has_distributed(Call& call) { return make_bool(call.env, false); }
}  // namespace

void define_distributed(State& state, napi_value exports) {
  define(state, exports, {{"hasDistributed", entry<has_distributed>}});
}

#endif

}  // namespace pd
