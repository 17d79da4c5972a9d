// What this libtorch is and can do: versions, threads, devices, numeric switches. The CUDA part is a
// separate library that is opened at load when it lies beside libtorch_cpu, so that one addon serves both
// builds and no CUDA header is needed.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/_nnpack_available.h>
#include <dlfcn.h>
#if defined(__linux__)
#include <sys/resource.h>
#endif

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <mutex>
#include <sstream>

#include "addon.h"
#include "cpu_memory.h"

#if PD_TORCH_AT_LEAST(2, 9)
#include <c10/core/CachingDeviceAllocator.h>
#endif

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace pd {

namespace {

struct Acceleration {
  std::string library_folder;
  std::string reason;  // why there is no GPU library; empty when it was loaded
};

const Acceleration& load_acceleration() {
  static Acceleration result;
  static std::once_flag once;
  std::call_once(once, [] {
    Dl_info info;
    if (dladdr(reinterpret_cast<void*>(&at::show_config), &info) != 0 && info.dli_fname != nullptr) {
      // The loader's name may hold `..`: the addon finds a libtorch in its project by a relative path.
      char* real = realpath(info.dli_fname, nullptr);
      const std::string path = real != nullptr ? real : info.dli_fname;
      free(real);
      result.library_folder = path.substr(0, path.find_last_of('/'));
    }
#if defined(__linux__)
    const std::string& folder = result.library_folder;
    struct Candidate {
      const char* library;
      const char* driver;
      const char* missing;
    };
    const Candidate candidates[] = {
        {"/libtorch_cuda.so", "libcuda.so.1", "no NVIDIA driver (libcuda.so.1) on this machine"},
        {"/libtorch_hip.so", "libhsa-runtime64.so.1", "no ROCm runtime (libhsa-runtime64.so.1) on this machine"},
    };
    result.reason = "this libtorch is a CPU build (no libtorch_cuda.so in " + folder + ")";
    for (const Candidate& candidate : candidates) {
      const std::string path = folder + candidate.library;
      void* present = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
      if (present != nullptr) {
        result.reason.clear();
        return;
      }
      FILE* file = std::fopen(path.c_str(), "rb");
      if (file == nullptr) continue;
      std::fclose(file);
      // Opening the GPU library takes a second and hundreds of MB: not where there is no driver.
      if (dlopen(candidate.driver, RTLD_LAZY | RTLD_GLOBAL) == nullptr) {
        result.reason = candidate.missing;
        continue;
      }
      if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
        const char* error = dlerror();
        result.reason = error != nullptr ? error : "unknown reason";
        continue;
      }
      result.reason.clear();
      return;
    }
#else
    result.reason = "this platform's libtorch has no CUDA";
#endif
  });
  return result;
}

// glibc hands blocks above 128 kB back to the system as soon as they are freed, so every training step
// page-faults its activations anew. Keeping them made a training step of a small conv net (4 × 64 channels,
// 32 × 32, batch 32, 2 threads) 1.3 to 1.7 times as fast (76 ms instead of 98 to 126 ms) for 100 MB more
// resident memory. Settings of the user's own (environment variables) are left alone.
void tune_allocator() {
#if defined(__GLIBC__)
  static std::once_flag once;
  std::call_once(once, [] {
    for (const char* own : {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES"}) {
      if (std::getenv(own) != nullptr) return;
    }
    // Older glibc refuses thresholds above 32 MB.
    if (mallopt(M_MMAP_THRESHOLD, 1 << 30) == 0) mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 512 << 20);
    mallopt(M_TOP_PAD, 64 << 20);
    mallopt(M_ARENA_MAX, 1);
    use_huge_pages();
  });
#endif
}

napi_value version(Call& call) {
  napi_env env = call.env;
  napi_value result;
  check(env, napi_create_object(env, &result));
  set(env, result, "torch", make_string(env, TORCH_VERSION));
  set(env, result, "config", make_string(env, at::show_config()));
#if PD_TORCH_AT_LEAST(2, 0)
  set(env, result, "cpuCapability", make_string(env, at::get_cpu_capability()));
#else
  set(env, result, "cpuCapability", make_null(env));
#endif
  set(env, result, "oneDnn", make_bool(env, at::hasMKLDNN()));
  set(env, result, "mkl", make_bool(env, at::hasMKL()));
  set(env, result, "parallel", make_string(env, at::get_parallel_info()));
  set(env, result, "libraryFolder", make_string(env, load_acceleration().library_folder));
  set(env, result, "noCudaReason",
      load_acceleration().reason.empty() ? make_null(env) : make_string(env, load_acceleration().reason));
  return result;
}

napi_value get_threads(Call& call) { return make_int(call.env, at::get_num_threads()); }
napi_value set_threads(Call& call) {
  const int64_t threads = get_int(call.env, call.args[0]);
  if (threads < 1 || threads > 4096) throw Fault("ERR_TORCH_ARGUMENT", "setNumThreads: expected 1 to 4096 threads");
  at::set_num_threads(static_cast<int>(threads));
  return nullptr;
}

// RLIMIT_DATA counts private writable memory, not what V8 only reserves. Past it an allocation fails with an
// exception, where the kernel would otherwise kill the process without a word.
napi_value limit_memory(Call& call) {
#if defined(__linux__)
  const int64_t bytes = get_int(call.env, call.args[0]);
  rlimit limit;
  if (bytes <= 0 || getrlimit(RLIMIT_DATA, &limit) != 0) return make_bool(call.env, false);
  limit.rlim_cur = std::min(limit.rlim_max, static_cast<rlim_t>(bytes));
  return make_bool(call.env, setrlimit(RLIMIT_DATA, &limit) == 0);
#else
  return make_bool(call.env, false);
#endif
}

int cuda_count() { return at::detail::getCUDAHooks().hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0; }

napi_value cuda_device_count(Call& call) { return make_int(call.env, cuda_count()); }
napi_value mps_is_available(Call& call) { return make_bool(call.env, at::hasMPS()); }

// cudaDeviceInfo(index) -> {name, totalBytes, computeCapability} through the driver's own library (no CUDA headers needed).
napi_value cuda_device_info(Call& call) {
  napi_env env = call.env;
  const int64_t index = get_int(env, call.args[0]);
  if (index < 0 || index >= cuda_count()) {
    throw Fault("ERR_TORCH_ARGUMENT", "cudaDeviceInfo: there are " + std::to_string(cuda_count()) + " CUDA devices");
  }
  napi_value result;
  check(env, napi_create_object(env, &result));
  std::string name = "CUDA device " + std::to_string(index);
  size_t total = 0;
  double capability = 0;
  if (void* driver = dlopen("libcuda.so.1", RTLD_LAZY)) {
    auto start = reinterpret_cast<int (*)(unsigned)>(dlsym(driver, "cuInit"));
    auto get = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
    auto get_name = reinterpret_cast<int (*)(char*, int, int)>(dlsym(driver, "cuDeviceGetName"));
    auto get_total = reinterpret_cast<int (*)(size_t*, int)>(dlsym(driver, "cuDeviceTotalMem_v2"));
    auto get_attribute = reinterpret_cast<int (*)(int*, int, int)>(dlsym(driver, "cuDeviceGetAttribute"));
    int device = 0;
    char text[256] = {0};
    if (start && get && get_name && get_total && start(0) == 0 && get(&device, static_cast<int>(index)) == 0) {
      if (get_name(text, sizeof text - 1, device) == 0) name = text;
      get_total(&total, device);
      // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
      int major = 0, minor = 0;
      if (get_attribute && get_attribute(&major, 75, device) == 0 && get_attribute(&minor, 76, device) == 0) {
        capability = major + minor / 10.0;
      }
    }
    dlclose(driver);
  }
  set(env, result, "name", make_string(env, name));
  set(env, result, "totalBytes", make_int(env, static_cast<int64_t>(total)));
  set(env, result, "computeCapability", make_number(env, capability));
  return result;
}

// cudaMemory(index) -> {allocatedBytes, reservedBytes, peakAllocatedBytes} or null where not offered.
napi_value cuda_memory(Call& call) {
  napi_env env = call.env;
#if PD_TORCH_AT_LEAST(2, 9)
  const int64_t index = get_int(env, call.args[0]);
  if (index < 0 || index >= cuda_count()) return make_null(env);
  auto* allocator = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(c10::DeviceType::CUDA));
  if (allocator == nullptr || !allocator->initialized()) return make_null(env);
  const auto stats = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index));
  napi_value result;
  check(env, napi_create_object(env, &result));
  set(env, result, "allocatedBytes", make_int(env, stats.allocated_bytes[0].current));
  set(env, result, "peakAllocatedBytes", make_int(env, stats.allocated_bytes[0].peak));
  set(env, result, "reservedBytes", make_int(env, stats.reserved_bytes[0].current));
  return result;
#else
  return make_null(env);
#endif
}

napi_value synchronize(Call& call) {
  const c10::Device device(get_string(call.env, call.args[0]));
  if (device.is_cuda()) {
    at::detail::getCUDAHooks().deviceSynchronize(device.has_index() ? device.index() : 0);
  }
#if defined(__APPLE__)
  if (device.type() == c10::DeviceType::MPS) at::detail::getMPSHooks().deviceSynchronize();
#endif
  return nullptr;
}

// setFlag(name, on): numeric and kernel-choice switches of the library.
napi_value set_flag(Call& call) {
  const std::string name = get_string(call.env, call.args[0]);
  const bool on = get_bool(call.env, call.args[1]);
  auto& context = at::globalContext();
  if (name == "cudnnBenchmark") {
    context.setBenchmarkCuDNN(on);
  } else if (name == "tf32") {
    context.setAllowTF32CuDNN(on);
    context.setAllowTF32CuBLAS(on);
  } else if (name == "deterministic") {
    context.setDeterministicAlgorithms(on, /*warn_only=*/true);
    context.setDeterministicCuDNN(on);
  } else if (name == "flushDenormal") {
    context.setFlushDenormal(on);
  } else if (name == "oneDnn") {
    context.setUserEnabledMkldnn(on);
  } else {
    throw Fault("ERR_TORCH_ARGUMENT", "setFlag: unknown flag '" + name +
                                          "' (cudnnBenchmark, tf32, deterministic, flushDenormal, oneDnn)");
  }
  return nullptr;
}

// Where the processor does not suit NNPACK, libtorch would ask it in every convolution of a single image all the same, and
// warn on stderr each time. Asked once without the warning, it is left out instead.
void leave_out_nnpack() {
  static std::once_flag once;
  std::call_once(once, [] {
    std::ostringstream unseen;
    auto* const shown = std::cerr.rdbuf(unseen.rdbuf());
    const bool available = at::_nnpack_available();
    std::cerr.rdbuf(shown);
#if PD_TORCH_AT_LEAST(2, 3)
    if (!available) at::globalContext().setUserEnabledNNPACK(false);
#else
    (void)available;  // older ones warn once a process, which is done
#endif
  });
}

}  // namespace

void define_runtime(State& state, napi_value exports) {
  tune_allocator();
  leave_out_nnpack();
  load_acceleration();
  define(state, exports,
         {{"version", entry<version>},
          {"getNumThreads", entry<get_threads>},
          {"setNumThreads", entry<set_threads>},
          {"limitMemory", entry<limit_memory>},
          {"cudaDeviceCount", entry<cuda_device_count>},
          {"cudaDeviceInfo", entry<cuda_device_info>},
          {"cudaMemory", entry<cuda_memory>},
          {"mpsIsAvailable", entry<mps_is_available>},
          {"synchronize", entry<synchronize>},
          {"setFlag", entry<set_flag>}});
}

}  // namespace pd
