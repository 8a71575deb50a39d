// How a problem is cut into parts that threads take one by one, and the memory they work in.
#pragma once

#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace sightline {

struct Part {  // queries [begin, end) of one head
  int64_t b, h, begin, end;
};

// Key or value rows this many floats apart (heads side by side in memory) fall into few cache sets and into a
// page each; a head that several blocks read is copied together first.
constexpr int64_t kFarStride = 512;
constexpr int64_t kCopyPays = 4;                    // blocks
constexpr int64_t kCopyLimit = int64_t(256) << 20;  // bytes, over all workers

// Below this many multiply-adds for each, waking another thread costs more than it saves.
constexpr double kWorkPerThread = 8e6;

struct Schedule {
  const sightline_problem& problem;
  int block_rows, workers;
  int64_t blocks;    // per head
  int64_t per_head;  // parts
  bool copy_keys, copy_values;

  // `whole_heads`: parts should be few, because each has a cost of its own.
  Schedule(const Kernels& kernels, const sightline_problem& p, int threads, bool values, bool whole_heads)
      : problem(p), block_rows(kernels.block_rows), blocks((p.queries + block_rows - 1) / block_rows) {
    const int64_t heads = p.batch * p.heads;
    workers = useful_workers(threads, heads * blocks, (double)p.width + (values ? p.value_width : 0));
    const bool copying =
        blocks >= kCopyPays && p.keys * (p.width + p.value_width) * 4 * workers <= kCopyLimit;
    copy_keys = copying && p.key_stride[2] >= kFarStride && p.key_stride[2] > p.width;
    copy_values = copying && values && p.value_stride[2] >= kFarStride && p.value_stride[2] > p.value_width;
    per_head = whole_heads || copy_keys || copy_values ? few_parts(heads) : blocks;
  }

  int64_t parts() const { return problem.batch * problem.heads * per_head; }

  Part part(int64_t item) const {
    const int64_t head = item / per_head, at = item % per_head;
    const int64_t begin = blocks * at / per_head * block_rows,
                  end = blocks * (at + 1) / per_head * block_rows;
    return {head / problem.heads, head % problem.heads, begin, end < problem.queries ? end : problem.queries};
  }

  size_t copy_bytes() const {
    return sizeof(float) * problem.keys *
           ((copy_keys ? problem.width : 0) + (copy_values ? problem.value_width : 0));
  }

  // The problem as the kernels should see it for one part: with its keys and values copied, or as it is.
  sightline_problem head_problem(const Part& part, void* memory) const {
    sightline_problem head = problem;
    const int64_t g = part.h / (problem.heads / problem.kv_heads);
    float* to = static_cast<float*>(memory);
    if (copy_keys) to = copy_rows(to, part.b, g, problem.width, &head.key, head.key_stride);
    if (copy_values) copy_rows(to, part.b, g, problem.value_width, &head.value, head.value_stride);
    return head;
  }

 private:
  int useful_workers(int threads, int64_t items, double columns) const {
    const double work = (double)problem.batch * problem.heads * problem.queries * problem.keys * columns;
    const double most = work / kWorkPerThread + 1;
    int64_t count = threads < items ? threads : items;
    if (most < count) count = (int64_t)most;
    return count < 1 ? 1 : (int)count;
  }

  // One part per head where heads alone keep every worker busy.
  int64_t few_parts(int64_t heads) const {
    if (heads % workers == 0 || heads >= 4 * workers) return 1;
    const int64_t wanted = (4 * (int64_t)workers + heads - 1) / heads;
    return wanted < blocks ? wanted : blocks;
  }

  // Copies one head's rows to `to` and points `rows` there; returns what follows.
  float* copy_rows(float* to, int64_t b, int64_t g, int64_t width, const void** rows,
                   int64_t (&stride)[3]) const {
    const float* from = static_cast<const float*>(*rows) + b * stride[0] + g * stride[1];
    for (int64_t j = 0; j < problem.keys; j++)
      memcpy(to + j * width, from + j * stride[2], sizeof(float) * width);
    *rows = to;
    stride[0] = stride[1] = 0, stride[2] = width;
    return to + problem.keys * width;
  }
};

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
