// Memory that workers work in.
#pragma once

#include <cstddef>
#include <cstdlib>

namespace sightline {

// One piece of memory per worker, page by page so that none shares a cache line; all or nothing.
class WorkerMemory {
 public:
  WorkerMemory(int workers, size_t bytes)
      : stride_((bytes + 4095) / 4096 * 4096 + 4096),
        memory_(static_cast<char*>(std::aligned_alloc(4096, stride_ * workers))) {}
  ~WorkerMemory() { std::free(memory_); }
  WorkerMemory(const WorkerMemory&) = delete;
  WorkerMemory& operator=(const WorkerMemory&) = delete;

  bool ok() const { return memory_ != nullptr; }
  char* of(int worker) const { return memory_ + stride_ * worker; }

 private:
  size_t stride_;
  char* memory_;
};

}  // namespace sightline
