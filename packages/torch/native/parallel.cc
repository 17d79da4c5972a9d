#include "parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>

#if defined(__linux__)
// GNU's OpenMP library, and LLVM's, which has the same entry points. Absent where libtorch was built without.
extern "C" {
void GOMP_parallel(void (*fn)(void*), void* data, unsigned threads, unsigned flags) __attribute__((weak));
int omp_get_thread_num() __attribute__((weak));
int omp_get_num_threads() __attribute__((weak));
int omp_in_parallel() __attribute__((weak));
}
#endif

namespace pd {

namespace {

#if defined(__linux__)
struct Region {
  int64_t count;
  const std::function<void(int64_t, int64_t)>& work;
};

void run_part(void* data) {
  const Region& region = *static_cast<const Region*>(data);
  const int64_t threads = omp_get_num_threads();
  const int64_t share = (region.count + threads - 1) / threads;
  const int64_t begin = std::min(region.count, omp_get_thread_num() * share);
  const int64_t end = std::min(region.count, begin + share);
  if (begin < end) region.work(begin, end);
}
#endif

}  // namespace

void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& work) {
  if (count <= 0) return;
#if defined(__linux__)
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), count / std::max<int64_t>(grain, 1));
  if (threads > 1 && GOMP_parallel && omp_get_thread_num && omp_get_num_threads && omp_in_parallel &&
      !omp_in_parallel()) {
    Region region{count, work};
    GOMP_parallel(run_part, &region, static_cast<unsigned>(threads), 0);
    return;
  }
#else
  (void)grain;
#endif
  work(0, count);
}

}  // namespace pd
