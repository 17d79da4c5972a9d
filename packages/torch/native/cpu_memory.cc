// Memory of tensors on a CPU. A training step touches the whole of its memory again and again, and a small network many
// small parts of it: with pages of 4 kB, looking up addresses takes some of the processor's time. Linux has pages of
// 2 MB, by default only for memory that asks for them, which glibc does not.
#include "cpu_memory.h"

#include <cstdint>  // says whether the C library is glibc

#if defined(__GLIBC__)
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstring>

namespace pd {

namespace {

constexpr uintptr_t kHugePage = uintptr_t{2} << 20;

// The last whole huge page before the end of the heap.
uintptr_t heap_end() { return reinterpret_cast<uintptr_t>(sbrk(0)) & ~(kHugePage - 1); }

// Asks for huge pages in what the heap has grown by since the last call. It grows by 64 MiB at once (M_TOP_PAD in
// runtime.cc), nearly all of which has not been touched yet.
void advise_heap() {
  static std::atomic<uintptr_t> advised{heap_end()};
  const uintptr_t end = heap_end();
  uintptr_t begin = advised.load(std::memory_order_relaxed);
  if (end <= begin || !advised.compare_exchange_strong(begin, end)) return;
  madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
}

void free_cpu(void* data) { c10::free_cpu(data); }

// `allocate` is const in older versions, and `copy_data` is missing in some: so nothing here says `override`.
class HeapAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) const { return made(bytes); }
  c10::DataPtr allocate(size_t bytes) { return made(bytes); }
  c10::DeleterFnPtr raw_deleter() const { return &free_cpu; }
  void copy_data(void* to, const void* from, size_t bytes) const { std::memcpy(to, from, bytes); }

 private:
  static c10::DataPtr made(size_t bytes) {
    void* data = c10::alloc_cpu(bytes);
    advise_heap();
    return {data, data, &free_cpu, c10::Device(c10::DeviceType::CPU)};
  }
};

}  // namespace

void use_huge_pages() {
  advise_heap();
  static HeapAllocator* const allocator = new HeapAllocator;
  c10::SetCPUAllocator(allocator, 1);
}

}  // namespace pd
#else
namespace pd {
void use_huge_pages() {}
}  // namespace pd
#endif
