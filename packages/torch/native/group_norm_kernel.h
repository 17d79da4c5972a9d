// The loops of fused group normalisation: see group_norm.cc for what they add up to.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>

namespace pd {

// Tensors are [N, C, H·W], or [N, H·W, C] where channels_last. Coefficients are float32 [N, C].
struct GroupNormJob {
  int64_t samples = 0;
  int64_t channels = 0;
  int64_t positions = 0;
  bool channels_last = false;
  bool silu = false;
  bool bfloat16 = false;  // else float32
  const void* x = nullptr;
  const void* grad = nullptr;  // of the output
  void* out = nullptr;         // the output, or the gradient of x
  // The output is act(z) with z = scale · x + offset.
  const float* scale = nullptr;
  const float* offset = nullptr;
  const float* pivot = nullptr;  // near the mean of the channel
  // The gradient of x is scale · dz + slope · x + constant.
  const float* slope = nullptr;
  const float* constant = nullptr;
  // Two float32 sums per part and channel, [N, parts, 2, C].
  float* partial = nullptr;

  // A sample is worked on in parts: so many positions of all channels where channels_last, else all of one channel.
  static constexpr int64_t kPartPositions = 128;
  int64_t items_per_sample() const {
    return channels_last ? (positions + kPartPositions - 1) / kPartPositions : channels;
  }
  // Rows of `partial` per sample.
  int64_t parts() const { return channels_last ? items_per_sample() : 1; }
  // Positions behind row `part` of `partial`.
  int64_t part_positions(int64_t part) const {
    if (!channels_last) return positions;
    const int64_t left = positions - part * kPartPositions;
    return left < kPartPositions ? left : kPartPositions;
  }
};

enum class GroupNormPhase {
  Moments,   // partial: mean of x, sum of squared differences from it
  Forward,   // out = act(z)
  Sums,      // partial: sum of dz, sum of dz · (x − pivot); out = dz where it is not the gradient of the output
  Backward,  // out = gradient of x
};

// Does items [begin, end) of samples · items_per_sample().
void run_group_norm(const GroupNormJob& job, GroupNormPhase phase, int64_t begin, int64_t end);

}  // namespace pd
