// Properties and lifetime of tensors.
#include <ATen/core/Tensor.h>

#include "addon.h"

namespace pd {

namespace {

// Telling V8 about every tensor would cost more than the tensor: changes are saved up to this size.
constexpr int64_t kReportBytes = 8 << 20;

void report(State& state) {
  if (state.collectable_bytes_pending > -kReportBytes && state.collectable_bytes_pending < kReportBytes) return;
  int64_t total;
  napi_adjust_external_memory(state.env, state.collectable_bytes_pending, &total);
  state.collectable_bytes_pending = 0;
}

napi_value shape(Call& call) { return make_ints(call.env, get_tensor(call.state, call.args[0]).sizes()); }
napi_value strides(Call& call) { return make_ints(call.env, get_tensor(call.state, call.args[0]).strides()); }
napi_value dtype(Call& call) {
  return make_string(call.env, dtype_name(get_tensor(call.state, call.args[0]).scalar_type()));
}
napi_value device(Call& call) { return make_string(call.env, get_tensor(call.state, call.args[0]).device().str()); }
napi_value numel(Call& call) { return make_int(call.env, get_tensor(call.state, call.args[0]).numel()); }
napi_value ndim(Call& call) { return make_int(call.env, get_tensor(call.state, call.args[0]).dim()); }
napi_value size(Call& call) {
  const at::Tensor& tensor = get_tensor(call.state, call.args[0]);
  return make_int(call.env, tensor.size(get_int(call.env, call.args[1])));
}
napi_value is_contiguous(Call& call) {
  const at::Tensor& tensor = get_tensor(call.state, call.args[0]);
  const bool channels_last = call.given(1) && get_bool(call.env, call.args[1]);
  return make_bool(call.env, tensor.is_contiguous(channels_last ? at::MemoryFormat::ChannelsLast
                                                                : at::MemoryFormat::Contiguous));
}
napi_value same_storage(Call& call) {
  const at::Tensor& a = get_tensor(call.state, call.args[0]);
  const at::Tensor& b = get_tensor(call.state, call.args[1]);
  return make_bool(call.env, a.has_storage() && b.has_storage() &&
                                 a.storage().unsafeGetStorageImpl() == b.storage().unsafeGetStorageImpl());
}

// alias(handle): another handle to the same tensor.
napi_value alias(Call& call) { return make_tensor(call.state, at::Tensor(get_tensor(call.state, call.args[0]))); }

napi_value release(Call& call) {
  const bool released =
      [&] {
        int64_t collectable = 0;
        const bool found = call.state.table.release(get_number(call.env, call.args[0]), collectable);
        call.state.collectable_bytes_pending -= collectable;
        return found;
      }();
  report(call.state);
  return make_bool(call.env, released);
}

// releaseMany(handles: Float64Array, count)
napi_value release_many(Call& call) {
  napi_typedarray_type type;
  size_t length;
  void* data;
  check(call.env, napi_get_typedarray_info(call.env, call.args[0], &type, &length, &data, nullptr, nullptr));
  if (type != napi_float64_array) throw Fault("ERR_TORCH_ARGUMENT", "internal: handles must be a Float64Array");
  const size_t count = static_cast<size_t>(get_int(call.env, call.args[1]));
  int64_t collectable = 0;
  for (size_t i = 0; i < count && i < length; ++i) {
    call.state.table.release(static_cast<const double*>(data)[i], collectable);
  }
  call.state.collectable_bytes_pending -= collectable;
  report(call.state);
  return nullptr;
}

// collectable(handle): the collector owns this tensor now, so it is told its size.
napi_value collectable(Call& call) {
  call.state.collectable_bytes_pending += call.state.table.mark_collectable(get_number(call.env, call.args[0]));
  report(call.state);
  return nullptr;
}

napi_value live_tensors(Call& call) {
  return make_int(call.env, static_cast<int64_t>(call.state.table.live()));
}
napi_value native_bytes(Call& call) { return make_int(call.env, call.state.table.storage_bytes()); }

}  // namespace

void define_tensors(State& state, napi_value exports) {
  define(state, exports,
         {{"shape", entry<shape>},
          {"strides", entry<strides>},
          {"dtype", entry<dtype>},
          {"device", entry<device>},
          {"numel", entry<numel>},
          {"ndim", entry<ndim>},
          {"size", entry<size>},
          {"isContiguous", entry<is_contiguous>},
          {"sameStorage", entry<same_storage>},
          {"alias", entry<alias>},
          {"release", entry<release>},
          {"releaseMany", entry<release_many>},
          {"collectable", entry<collectable>},
          {"liveTensors", entry<live_tensors>},
          {"nativeBytes", entry<native_bytes>}});
}

}  // namespace pd
