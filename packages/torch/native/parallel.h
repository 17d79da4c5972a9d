// Work on libtorch's own threads. `at::parallel_for` is header code that needs the compiler's OpenMP flag and would
// bring a second OpenMP library in; the entry point of the one that libtorch has loaded does without.
#pragma once

#include <cstdint>
#include <functional>

namespace pd {

// Calls `work(begin, end)` for parts of [0, count), side by side on up to at::get_num_threads() threads, none smaller
// than about `grain`. `work` must not throw. Without OpenMP, and within a parallel region, it is one call.
void parallel_for(int64_t count, int64_t grain, const std::function<void(int64_t, int64_t)>& work);

}  // namespace pd
