// Large pages for an array that will be written from end to end.
//
// One of 32 MB that was never touched takes 8,192 page faults, as long as a quarter of the pass that fills
// it.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sightline {

inline void ask_for_large_pages(void* data, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  constexpr uintptr_t kLargePage = 2 << 20;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data), end = (begin + bytes) / kLargePage * kLargePage;
  const uintptr_t first = (begin + kLargePage - 1) / kLargePage * kLargePage;
  if (first < end) madvise(reinterpret_cast<void*>(first), end - first, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

}  // namespace sightline
