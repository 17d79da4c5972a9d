// Graphs: work that a GPU is given once and repeats at one call (CUDA graphs), through libtorch's interface for any device,
// so that no headers of CUDA are needed. A graph repeats its work in the same memory: inputs are written into the tensors that
// were there when it was captured, and results are read from those.
#include "addon.h"

#if __has_include(<ATen/core/GraphImplInterface.h>)
#include <ATen/core/GraphImplInterface.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#define PD_HAS_GRAPHS
#endif

namespace pd {

#ifdef PD_HAS_GRAPHS

namespace {

// Graphs of one device. None of them runs while another does, so they share memory for what is temporary.
struct GraphPool {
  explicit GraphPool(c10::Device device_) : device(device_), implementation(device_.type()) {}

  c10::Device device;
  c10::impl::VirtualGuardImpl implementation;
  std::vector<std::unique_ptr<at::GraphImplInterface>> graphs;
  std::unique_ptr<c10::Stream> own;    // on which they are captured
  std::unique_ptr<c10::Stream> usual;  // while one is being captured

  void begin() {
    auto graph = at::create_graph_impl(device.type(), {});
    const at::MempoolId_t pool = graphs.empty() ? at::MempoolId_t{0, 0} : graphs.front()->pool();
    const c10::Stream before = implementation.getStream(device);
    if (!own) own = std::make_unique<c10::Stream>(implementation.getStreamFromGlobalPool(device));
    c10::Event done(device.type());
    done.record(before);
    done.block(*own);
    implementation.exchangeStream(*own);
    usual = std::make_unique<c10::Stream>(before);
    try {
      // Threads that wait for results (transfer.cc) ask for events meanwhile, which is of no matter to this one.
      graph->capture_begin(pool, at::GraphCaptureMode::ThreadLocal);
    } catch (...) {
      leave();
      throw;
    }
    graphs.push_back(std::move(graph));
  }

  void end(bool keep) {
    if (!usual) throw Fault("ERR_TORCH_ARGUMENT", "capture: nothing is being captured");
    try {
      graphs.back()->capture_end();
    } catch (...) {
      graphs.pop_back();
      leave();
      if (keep) throw;
      return;
    }
    if (!keep) graphs.pop_back();
    leave();
  }

  void leave() {
    implementation.exchangeStream(*usual);
    usual.reset();
  }
};

GraphPool& get_pool(Call& call) {
  void* data = nullptr;
  check(call.env, napi_get_value_external(call.env, call.args[0], &data));
  return *static_cast<GraphPool*>(data);
}

napi_value has_graphs(Call& call) {
  return make_bool(call.env, at::has_graph_impl(c10::Device(get_string(call.env, call.args[0])).type()));
}

// createGraphPool(device) -> pool
napi_value create_graph_pool(Call& call) {
  c10::Device device(get_string(call.env, call.args[0]));
  if (!device.has_index()) device = c10::impl::VirtualGuardImpl(device.type()).getDevice();
  auto pool = std::make_unique<GraphPool>(device);
  napi_value result;
  check(call.env, napi_create_external(
                      call.env, pool.get(),
                      [](napi_env, void* data, void*) { delete static_cast<GraphPool*>(data); }, nullptr, &result));
  pool.release();
  return result;
}

// beginCapture(pool): what follows becomes a graph, and is not done.
napi_value begin_capture(Call& call) {
  get_pool(call).begin();
  call.state.is_capturing = true;
  return nullptr;
}

// endCapture(pool, keep) -> number of the graph
napi_value end_capture(Call& call) {
  GraphPool& pool = get_pool(call);
  call.state.is_capturing = false;
  pool.end(get_bool(call.env, call.args[1]));
  return make_int(call.env, static_cast<int64_t>(pool.graphs.size()) - 1);
}

// replayGraph(pool, number)
napi_value replay_graph(Call& call) {
  get_pool(call).graphs.at(static_cast<size_t>(get_int(call.env, call.args[1])))->replay();
  return nullptr;
}

}  // namespace

void define_graphs(State& state, napi_value exports) {
  define(state, exports,
         {{"hasGraphs", entry<has_graphs>},
          {"createGraphPool", entry<create_graph_pool>},
          {"beginCapture", entry<begin_capture>},
          {"endCapture", entry<end_capture>},
          {"replayGraph", entry<replay_graph>}});
}

#else

namespace {

napi_value has_graphs(Call& call) { return make_bool(call.env, false); }

}  // namespace

void define_graphs(State& state, napi_value exports) { define(state, exports, {{"hasGraphs", entry<has_graphs>}}); }

#endif

}  // namespace pd
