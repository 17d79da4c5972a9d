// The handle table. A tensor is known to JavaScript by a number: slot index in the low 24 bits, the
// slot's generation above. Looking one up is an array access; a handle whose tensor was freed is caught
// because the generation has moved on. (Wrapping each tensor in a Node-API object would cost over 1 µs.)
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace pd {

class Table {
 public:
  static constexpr uint32_t kSlotBits = 24;
  static constexpr uint32_t kMaxSlots = 1u << kSlotBits;
  static constexpr uint32_t kMaxGeneration = (1u << 28) - 1;

  double put(at::Tensor tensor);
  const at::Tensor& get(double handle) const;  // throws Fault when stale
  // Frees the tensor. Returns false when the handle was already stale. `collectable` receives the bytes
  // that had been reported to the collector for it.
  bool release(double handle, int64_t& collectable);
  // Marks the tensor as owned by the garbage collector; returns the bytes to report.
  int64_t mark_collectable(double handle);

  size_t live() const { return live_; }
  // Bytes of the distinct storages behind all live handles. Walks the table.
  int64_t storage_bytes() const;

 private:
  struct Slot {
    at::Tensor tensor;
    int64_t collectable = 0;
    uint32_t generation = 1;
    uint32_t next_free = 0;
    bool used = false;
  };
  static constexpr uint32_t kNone = 0xffffffffu;
  const Slot* find(double handle) const;

  std::vector<Slot> slots_;
  uint32_t free_ = kNone;
  size_t live_ = 0;
};

}  // namespace pd
