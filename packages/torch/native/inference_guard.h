// Inference mode as a stack that JavaScript pushes and pops (libtorch's guard is scoped).
#pragma once

#include <c10/core/InferenceMode.h>

namespace pd {
struct InferenceGuard {
  c10::InferenceMode mode{true};
};
}  // namespace pd
