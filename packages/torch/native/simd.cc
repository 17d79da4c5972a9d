#include "simd.h"

#include <cstdlib>
#include <string>

namespace pd {

namespace {

// What ATEN_CPU_CAPABILITY allows libtorch to use.
SimdLevel allowed() {
  const char* given = std::getenv("ATEN_CPU_CAPABILITY");
  const std::string name = given ? given : "";
  if (name == "default") return SimdLevel::Baseline;
  if (name == "avx2") return SimdLevel::Avx2;
  return SimdLevel::Avx512;
}

SimdLevel detect() {
#if defined(PD_AVX512)
  const SimdLevel most = allowed();
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  if (avx2 && avx512 && most == SimdLevel::Avx512) return SimdLevel::Avx512;
  if (avx2 && most != SimdLevel::Baseline) return SimdLevel::Avx2;
#endif
  return SimdLevel::Baseline;
}

}  // namespace

SimdLevel simd_level() {
  static const SimdLevel level = detect();
  return level;
}

}  // namespace pd
