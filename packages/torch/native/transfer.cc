// Bytes between JavaScript's typed arrays and tensors, at once or without blocking.
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "addon.h"

namespace pd {

namespace {

struct Bytes {
  void* data = nullptr;
  size_t size = 0;
};

Bytes get_bytes(napi_env env, napi_value value) {
  static constexpr size_t kWidth[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};  // by napi_typedarray_type
  Bytes bytes;
  napi_typedarray_type type;
  size_t length;
  if (napi_get_typedarray_info(env, value, &type, &length, &bytes.data, nullptr, nullptr) != napi_ok ||
      static_cast<size_t>(type) >= sizeof kWidth / sizeof kWidth[0]) {
    throw Fault("ERR_TORCH_ARGUMENT", "expected a typed array");
  }
  bytes.size = length * kWidth[type];
  return bytes;
}

size_t byte_count(const at::Tensor& tensor) {
  return static_cast<size_t>(tensor.numel()) * static_cast<size_t>(tensor.element_size());
}

void require_size(const char* what, const at::Tensor& tensor, size_t size) {
  if (byte_count(tensor) == size) return;
  throw Fault("ERR_TORCH_ARGUMENT", std::string(what) + ": " + describe(tensor) + " holds " +
                                        std::to_string(byte_count(tensor)) + " bytes, the array has " +
                                        std::to_string(size));
}

// Memory from which a copy to the device goes on by itself: CUDA waits for all work before it when the memory is of the usual
// kind. libtorch uses it again only after the copy.
at::Tensor staging(at::IntArrayRef shape, at::ScalarType dtype, const c10::Device& target) {
  return at::empty(shape, at::TensorOptions().dtype(dtype).pinned_memory(target.is_cuda()));
}

// A graph would repeat the copy from memory that holds other things by then.
void require_no_capture(const State& state, const c10::Device& target) {
  if (state.is_capturing && !target.is_cpu()) {
    throw Fault("ERR_TORCH_ARGUMENT", "capture: values from the host cannot be a part of a graph");
  }
}

// fromBytes(array, shape, dtype, device) -> handle
napi_value from_bytes(Call& call) {
  const Bytes bytes = get_bytes(call.env, call.args[0]);
  const auto shape = get_ints(call.env, call.args[1]);
  const at::ScalarType dtype = dtype_from(get_string(call.env, call.args[2]));
  const c10::Device device(get_string(call.env, call.args[3]));
  require_no_capture(call.state, device);
  at::Tensor tensor = staging(shape, dtype, device);
  require_size("tensor", tensor, bytes.size);
  if (bytes.size > 0) std::memcpy(tensor.data_ptr(), bytes.data, bytes.size);
  if (!device.is_cpu()) tensor = tensor.to(device, dtype, /*non_blocking=*/device.is_cuda());
  return make_tensor(call.state, std::move(tensor));
}

// writeBytes(handle, array): the array becomes the tensor's contents, row-major.
napi_value write_bytes(Call& call) {
  const at::Tensor tensor = get_tensor(call.state, call.args[0]).detach();
  const Bytes bytes = get_bytes(call.env, call.args[1]);
  require_size("copyFromArray", tensor, bytes.size);
  if (bytes.size == 0) return nullptr;
  require_no_capture(call.state, tensor.device());
  if (tensor.device().is_cpu() && tensor.is_contiguous()) {
    std::memcpy(tensor.data_ptr(), bytes.data, bytes.size);
    tensor.unsafeGetTensorImpl()->bump_version();
    return nullptr;
  }
  at::Tensor staged = staging(tensor.sizes(), tensor.scalar_type(), tensor.device());
  std::memcpy(staged.data_ptr(), bytes.data, bytes.size);
  tensor.copy_(staged, /*non_blocking=*/tensor.is_cuda());
  return nullptr;
}

at::Tensor on_cpu(const at::Tensor& tensor) { return tensor.detach().to(at::kCPU).contiguous(); }

// Arrays come from JavaScript, which can say that there is no memory for one; Node-API would end the process.
void copy_out(napi_env env, const at::Tensor& contiguous, napi_value array) {
  const Bytes bytes = get_bytes(env, array);
  require_size("copyToArray", contiguous, bytes.size);
  if (bytes.size > 0) std::memcpy(bytes.data, contiguous.data_ptr(), bytes.size);
}

// readBytes(handle, array): the tensor's elements, row-major, into an array of the same number of bytes.
napi_value read_bytes(Call& call) {
  copy_out(call.env, on_cpu(get_tensor(call.state, call.args[0])), call.args[1]);
  return nullptr;
}

napi_value item(Call& call) {
  const at::Tensor tensor = get_tensor(call.state, call.args[0]);
  if (tensor.numel() != 1) {
    throw Fault("ERR_TORCH_ARGUMENT", "item: " + describe(tensor) + " does not have exactly one element");
  }
  const at::Scalar scalar = tensor.item();
  if (scalar.isBoolean()) return make_int(call.env, scalar.toBool() ? 1 : 0);
  if (scalar.isIntegral(false)) return make_number(call.env, static_cast<double>(scalar.toLong()));
  return make_number(call.env, scalar.toDouble());
}

// A device's copy is enqueued on its current stream at once (so later writes do not show in it); a pool
// thread waits for it, and the promise settles on the JavaScript thread.
struct Readback {
  State* state;
  at::Tensor host;
  std::unique_ptr<c10::Event> event;
  napi_ref array = nullptr;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
  std::string failure;
};

void readback_wait(napi_env, void* data) {
  auto& job = *static_cast<Readback*>(data);
  try {
    while (!job.event->query()) std::this_thread::sleep_for(std::chrono::microseconds(50));
  } catch (const std::exception& error) {
    job.failure = error.what();
  }
}

void readback_done(napi_env env, napi_status status, void* data) {
  std::unique_ptr<Readback> job(static_cast<Readback*>(data));
  napi_delete_async_work(env, job->work);
  napi_value array = nullptr;
  napi_get_reference_value(env, job->array, &array);
  napi_delete_reference(env, job->array);
  try {
    if (status != napi_ok) throw Fault("ERR_TORCH", "readback: cancelled");
    if (!job->failure.empty()) throw Fault("ERR_TORCH", "readback: " + job->failure);
    copy_out(env, job->host, array);
    napi_resolve_deferred(env, job->deferred, array);
  } catch (...) {
    rethrow_to_js(*job->state, "readback", nullptr, nullptr);
    napi_value error = nullptr;
    napi_get_and_clear_last_exception(env, &error);
    napi_reject_deferred(env, job->deferred, error);
  }
}

// readback(handle, array) -> Promise<array>: readBytes that does not wait for the device
napi_value readback(Call& call) {
  const at::Tensor source = get_tensor(call.state, call.args[0]).detach();
  napi_deferred deferred;
  napi_value promise;
  if (!source.device().is_cuda()) {
    // Nothing to wait for: a copy in memory is as fast as handing it to another thread.
    copy_out(call.env, on_cpu(source), call.args[1]);
    check(call.env, napi_create_promise(call.env, &deferred, &promise));
    check(call.env, napi_resolve_deferred(call.env, deferred, call.args[1]));
    return promise;
  }
  require_size("readback", source, get_bytes(call.env, call.args[1]).size);
  auto job = std::make_unique<Readback>();
  job->state = &call.state;
  {
    c10::DeviceGuard guard(source.device());
    job->host = at::empty(source.sizes(), at::TensorOptions().dtype(source.scalar_type()).pinned_memory(true));
    job->host.copy_(source.contiguous(), /*non_blocking=*/true);
    const c10::impl::VirtualGuardImpl implementation(source.device().type());
    job->event = std::make_unique<c10::Event>(source.device().type());
    job->event->record(implementation.getStream(source.device()));
  }
  check(call.env, napi_create_promise(call.env, &deferred, &promise));
  job->deferred = deferred;
  check(call.env, napi_create_reference(call.env, call.args[1], 1, &job->array));
  check(call.env, napi_create_async_work(call.env, nullptr, make_string(call.env, "torch.readback"), readback_wait,
                                         readback_done, job.get(), &job->work));
  check(call.env, napi_queue_async_work(call.env, job->work));
  job.release();
  return promise;
}

}  // namespace

void define_transfer(State& state, napi_value exports) {
  define(state, exports,
         {{"fromBytes", entry<from_bytes>},
          {"writeBytes", entry<write_bytes>},
          {"readBytes", entry<read_bytes>},
          {"item", entry<item>},
          {"readback", entry<readback>}});
}

}  // namespace pd
