// Gradients of sinks and bias terms while they are summed, one set a share. The dense bias' goes straight to
// its place where no two shares can meet; one of halves only where no two patches do.
#pragma once

#include <cstring>

#include "once/memory/large_pages.h"
#include "once/memory/worker_memory.h"
#include "shared/kernels.h"
#include "shared/sizes.h"
#include "shared/work.h"

namespace sightline {

class TermMemory {
 public:
  TermMemory(const Kernels& kernels, const sightline_problem& p, const sightline_gradients& g, int shares)
      : kernels_(kernels),
        problem_(p),
        grads_(g),
        shares_(shares),
        bias_direct_(sums_in_place() ? shares == 1 || each_row_once() : each_entry_once()),
        slopes_(g.slopes ? (p.slopes_stride[0] ? p.batch : 1) * p.heads : 0),
        table_(g.table ? (p.table_stride[0] ? p.heads : 1) * entries() : 0),
        sinks_(g.sinks ? p.heads : 0),
        bias_(g.bias && !bias_direct_ ? bias_extent(0) * bias_extent(1) * bias_extent(2) * bias_extent(3)
                                      : 0),
        // store_rows reads whole vectors.
        memory_(shares, sizeof(double) * (slopes_ + table_ + sinks_) +
                            sizeof(float) * (bias_ ? bias_ + padded_width(1) : 0)) {}

  bool ok() const { return memory_.ok(); }

  TermSums sums(int share) const {
    double* doubles = reinterpret_cast<double*>(memory_.of(share));
    TermSums sums = {};
    if (slopes_) sums.slopes = doubles;
    if (table_) sums.table = doubles + slopes_;
    if (sinks_) sums.sinks = doubles + slopes_ + table_;
    sums.slopes_stride[0] = problem_.slopes_stride[0] ? problem_.heads : 0;
    sums.slopes_stride[1] = 1;
    sums.table_stride = problem_.table_stride[0] ? entries() : 0;
    sums.bias = bias_ ? bias_of(share) : grads_.bias;
    sums.bias_dtype = bias_ ? (int32_t)SIGHTLINE_FLOAT32 : problem_.bias_dtype;
    int64_t stride = 1;
    for (int axis = 3; axis >= 0; axis--) {
      sums.bias_stride[axis] = bias_extent(axis) == 1 ? 0 : bias_ ? stride : grads_.bias_stride[axis];
      stride *= bias_extent(axis);
    }
    sums.clear_bias = grads_.bias && !bias_ && each_row_once();
    sums.streams_bias = sums.clear_bias && bias_bytes() > kStreamed;
    return sums;
  }

  void clear(int share) const {
    memset(memory_.of(share), 0, sizeof(double) * (slopes_ + table_ + sinks_) + sizeof(float) * bias_);
  }

  // To be called once, before and after all shares.
  void begin() const {
    if (grads_.bias) ask_for_large_pages(grads_.bias, bias_bytes());
    if (grads_.bias && bias_direct_ && !(has_blocks() && each_row_once())) write_bias(nullptr);
  }
  void merge() const {
    const TermSums total = sums(0);
    for (int s = 1; s < shares_; s++) {
      const double* from = reinterpret_cast<const double*>(memory_.of(s));
      double* to = reinterpret_cast<double*>(memory_.of(0));
      for (int64_t i = 0; i < slopes_ + table_ + sinks_; i++) to[i] += from[i];
      for (int64_t i = 0; i < bias_; i++) bias_of(0)[i] += bias_of(s)[i];
    }
    write_positions(total);
    for (int64_t i = 0; i < sinks_; i++) grads_.sinks[i] = (float)total.sinks[i];
    if (bias_) write_bias(bias_of(0));
  }

 private:
  // Of the dense bias: what is smaller may still be in the caches when it is read.
  static constexpr int64_t kStreamed = 8 << 20;

  float* bias_of(int share) const {
    return reinterpret_cast<float*>(reinterpret_cast<double*>(memory_.of(share)) + slopes_ + table_ + sinks_);
  }
  int64_t entries() const { return 2 * problem_.radius + 1; }
  bool has_blocks() const { return problem_.queries > 0; }

  // Entries of the bias' gradient along an axis; 1 where it is summed.
  int64_t bias_extent(int axis) const {
    const int64_t sizes[] = {problem_.batch, problem_.heads, problem_.queries, problem_.keys};
    return grads_.bias_stride[axis] == 0 ? 1 : sizes[axis];
  }
  // From its first entry to its last.
  int64_t bias_bytes() const {
    int64_t span = 1;
    for (int axis = 0; axis < 4; axis++) {
      if (bias_extent(axis) == 0) return 0;
      span += (bias_extent(axis) - 1) * grads_.bias_stride[axis];
    }
    return span * element_bytes(problem_.bias_dtype);
  }
  // Whether no two blocks add to the same entry.
  bool each_row_once() const {
    const int64_t sizes[] = {problem_.batch, problem_.heads, problem_.queries};
    for (int axis = 0; axis < 3; axis++) {
      if (sizes[axis] > 1 && grads_.bias_stride[axis] == 0) return false;
    }
    return true;
  }

  // Whether no two blocks, and no two patches of a block, add to the same entry.
  bool each_entry_once() const {
    return each_row_once() && bias_extent(2) > 1 && bias_extent(3) > 1 && grads_.bias_stride[3] == 1;
  }
  // Halves would be rounded with every sum.
  bool sums_in_place() const { return problem_.bias_dtype == SIGHTLINE_FLOAT32; }

  // Sums, densely, to their places; null: zeros.
  void write_bias(const float* from) const {
    const int64_t (&stride)[4] = grads_.bias_stride;
    const int64_t keys = bias_extent(3), together = stride[3] == 1 ? keys : 1;
    for (int64_t b = 0; b < bias_extent(0); b++) {
      for (int64_t h = 0; h < bias_extent(1); h++) {
        for (int64_t i = 0; i < bias_extent(2); i++) {
          for (int64_t j = 0; j < keys; j += together) {
            write_entries(from, together, b * stride[0] + h * stride[1] + i * stride[2] + j * stride[3]);
            from += from ? together : 0;
          }
        }
      }
    }
  }
  void write_entries(const float* from, int64_t count, int64_t place) const {
    const int64_t size = element_bytes(problem_.bias_dtype);
    char* to = static_cast<char*>(grads_.bias) + place * size;
    if (from) {
      kernels_.store_rows(from, 1.0f, 1, count, to, problem_.bias_dtype, count);
    } else {
      memset(to, 0, size * count);
    }
  }

  void write_positions(const TermSums& total) const {
    const sightline_problem& p = problem_;
    for (int64_t i = 0; i < slopes_; i++) {
      grads_.slopes[i / p.heads * p.slopes_stride[0] + i % p.heads * p.slopes_stride[1]] =
          (float)total.slopes[i];
    }
    for (int64_t i = 0; i < table_; i++) {
      grads_.table[i / entries() * p.table_stride[0] + i % entries()] = (float)total.table[i];
    }
  }

  const Kernels& kernels_;
  const sightline_problem& problem_;
  const sightline_gradients& grads_;
  int shares_;
  bool bias_direct_;
  int64_t slopes_, table_, sinks_, bias_;
  WorkerMemory memory_;
};

}  // namespace sightline
