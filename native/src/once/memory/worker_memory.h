// Memory that workers work in.
#pragma once

#include <cstddef>
#include <cstdlib>

#if defined(_WIN32)
#include <malloc.h>
#endif

namespace sightline {

// One piece of memory per worker, page by page so that none shares a cache line; all or nothing.
class WorkerMemory {
 public:
  WorkerMemory(int workers, size_t bytes)
      : stride_((bytes + kPage - 1) / kPage * kPage + kPage), memory_(pages(stride_ * workers)) {}
  ~WorkerMemory() { give_back(memory_); }
  WorkerMemory(const WorkerMemory&) = delete;
  WorkerMemory& operator=(const WorkerMemory&) = delete;

  bool ok() const { return memory_ != nullptr; }
  char* of(int worker) const { return memory_ + stride_ * worker; }

 private:
  static constexpr size_t kPage = 4096;

#if defined(_WIN32)  // where free() takes nothing that is aligned
  static char* pages(size_t bytes) { return static_cast<char*>(_aligned_malloc(bytes, kPage)); }
  static void give_back(char* memory) { _aligned_free(memory); }
#else
  static char* pages(size_t bytes) { return static_cast<char*>(std::aligned_alloc(kPage, bytes)); }
  static void give_back(char* memory) { std::free(memory); }
#endif

  size_t stride_;
  char* memory_;
};

}  // namespace sightline
