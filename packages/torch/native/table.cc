// See table.h.
#include "table.h"

#include <unordered_set>

#include "addon.h"

namespace pd {

double Table::put(at::Tensor tensor) {
  uint32_t index;
  if (free_ != kNone) {
    index = free_;
    free_ = slots_[index].next_free;
  } else {
    if (slots_.size() >= kMaxSlots) {
      throw Fault("ERR_TORCH_HANDLES", "more than 16,777,216 live tensors: free them with scope() or dispose()");
    }
    index = static_cast<uint32_t>(slots_.size());
    slots_.emplace_back();
  }
  Slot& slot = slots_[index];
  slot.tensor = std::move(tensor);
  slot.used = true;
  slot.collectable = 0;
  ++live_;
  return static_cast<double>((static_cast<uint64_t>(slot.generation) << kSlotBits) | index);
}

const Table::Slot* Table::find(double handle) const {
  if (!(handle > 0) || handle >= 9007199254740992.0) return nullptr;
  const uint64_t bits = static_cast<uint64_t>(handle);
  const uint32_t index = static_cast<uint32_t>(bits & (kMaxSlots - 1));
  if (index >= slots_.size()) return nullptr;
  const Slot& slot = slots_[index];
  return slot.used && slot.generation == static_cast<uint32_t>(bits >> kSlotBits) ? &slot : nullptr;
}

const at::Tensor& Table::get(double handle) const {
  const Slot* slot = find(handle);
  if (slot == nullptr) {
    throw Fault("ERR_TORCH_DISPOSED",
                "the tensor has been disposed (by dispose() or at the end of its scope); "
                "return it from the scope or keep() it to use it later");
  }
  return slot->tensor;
}

bool Table::release(double handle, int64_t& collectable) {
  Slot* slot = const_cast<Slot*>(find(handle));
  if (slot == nullptr) return false;
  at::Tensor doomed = std::move(slot->tensor);
  slot->tensor = at::Tensor();
  collectable += slot->collectable;
  slot->collectable = 0;
  slot->used = false;
  slot->generation = slot->generation >= kMaxGeneration ? 1 : slot->generation + 1;
  slot->next_free = free_;
  free_ = static_cast<uint32_t>(slot - slots_.data());
  --live_;
  return true;
}

int64_t Table::mark_collectable(double handle) {
  Slot* slot = const_cast<Slot*>(find(handle));
  if (slot == nullptr || slot->collectable != 0 || !slot->tensor.has_storage()) return 0;
  slot->collectable = static_cast<int64_t>(slot->tensor.storage().nbytes());
  return slot->collectable;
}

int64_t Table::storage_bytes() const {
  std::unordered_set<const void*> seen;
  int64_t total = 0;
  for (const Slot& slot : slots_) {
    if (!slot.used || !slot.tensor.defined() || !slot.tensor.has_storage()) continue;
    const auto& storage = slot.tensor.storage();
    if (seen.insert(storage.unsafeGetStorageImpl()).second) total += static_cast<int64_t>(storage.nbytes());
  }
  return total;
}

}  // namespace pd
