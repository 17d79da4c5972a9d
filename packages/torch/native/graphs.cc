// Graphs: work that a GPU is given once and repeats at one call (CUDA graphs). A graph repeats its work in the same memory:
// inputs are written into the tensors that were there when it was captured, and results are read from those.
//
// libtorch's class for them can only be declared with the headers of CUDA, which a machine need not have to run this
// addon. Its member functions are looked up by their names instead; where one is missing, there are no graphs.
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>

#include <utility>

#include "addon.h"

namespace pd {

namespace {

using PoolId = std::pair<unsigned long long, unsigned long long>;

// Of cudaStreamCaptureMode: only what this thread does may spoil the capture. Threads that wait for results (transfer.cc) ask
// for their events meanwhile.
constexpr int kThreadLocal = 1;

// at::cuda::CUDAGraph.
struct Members {
  void (*construct)(void* self, bool keep_graph) = find("_ZN2at4cuda9CUDAGraphC1Eb");
  void (*destroy)(void* self) = find("_ZN2at4cuda9CUDAGraphD1Ev");
  void (*capture_begin)(void* self, PoolId, int mode) =
      find("_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode");
  void (*capture_end)(void* self) = find("_ZN2at4cuda9CUDAGraph11capture_endEv");
  void (*replay)(void* self) = find("_ZN2at4cuda9CUDAGraph6replayEv");
  PoolId (*pool)(void* self) = find("_ZN2at4cuda9CUDAGraph4poolEv");

  struct Symbol {
    void* address;
    template <class F>
    operator F*() const {
      return reinterpret_cast<F*>(address);
    }
  };
  static Symbol find(const char* name) { return {dlsym(RTLD_DEFAULT, name)}; }

  bool all() const { return construct && destroy && capture_begin && capture_end && replay && pool; }
};

// Looked up when the library for GPUs has been loaded.
const Members& members() {
  static const Members found;
  return found;
}

class Graph {
 public:
  Graph() { members().construct(memory_, /*keep_graph=*/false); }
  ~Graph() { members().destroy(memory_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  void capture_begin(PoolId pool) { members().capture_begin(memory_, pool, kThreadLocal); }
  void capture_end() { members().capture_end(memory_); }
  void replay() { members().replay(memory_); }
  PoolId pool() { return members().pool(memory_); }

 private:
  alignas(64) unsigned char memory_[4096];  // the class has some hundred bytes
};

// Graphs of one device. None of them runs while another does, so they share memory for what is temporary.
struct GraphPool {
  explicit GraphPool(c10::Device device_) : device(device_), implementation(device_.type()) {}

  c10::Device device;
  c10::impl::VirtualGuardImpl implementation;
  std::vector<std::unique_ptr<Graph>> graphs;
  std::unique_ptr<c10::Stream> own;    // on which they are captured
  std::unique_ptr<c10::Stream> usual;  // while one is being captured

  void begin() {
    auto graph = std::make_unique<Graph>();
    const c10::Stream before = implementation.getStream(device);
    if (!own) own = std::make_unique<c10::Stream>(implementation.getStreamFromGlobalPool(device));
    c10::Event done(device.type());
    done.record(before);
    done.block(*own);
    implementation.exchangeStream(*own);
    usual = std::make_unique<c10::Stream>(before);
    try {
      graph->capture_begin(graphs.empty() ? PoolId{0, 0} : graphs.front()->pool());
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

bool is_cuda(napi_env env, napi_value device) { return c10::Device(get_string(env, device)).is_cuda(); }

napi_value has_graphs(Call& call) {
  return make_bool(call.env, is_cuda(call.env, call.args[0]) && members().all());
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

}  // namespace pd
