// Gradients of sinks and bias terms while they are summed, one set a share. The dense bias' goes straight to
// its place where no two shares can meet.
#pragma once

#include <cstring>

#include "once/memory/large_pages.h"
#include "once/memory/worker_memory.h"
#include "shared/work.h"

namespace sightline {

class TermMemory {
 public:
  TermMemory(const sightline_problem& p, const sightline_gradients& g, int shares)
      : problem_(p),
        grads_(g),
        shares_(shares),
        bias_direct_(shares == 1 || each_row_once()),
        slopes_(g.slopes ? (p.slopes_stride[0] ? p.batch : 1) * p.heads : 0),
        table_(g.table ? (p.table_stride[0] ? p.heads : 1) * entries() : 0),
        sinks_(g.sinks ? p.heads : 0),
        bias_(g.bias && !bias_direct_ ? bias_extent(0) * bias_extent(1) * bias_extent(2) * bias_extent(3)
                                      : 0),
        memory_(shares, sizeof(double) * (slopes_ + table_ + sinks_) + sizeof(float) * bias_) {}

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
    sums.bias = bias_ ? reinterpret_cast<float*>(doubles + slopes_ + table_ + sinks_) : grads_.bias;
    int64_t stride = 1;
    for (int axis = 3; axis >= 0; axis--) {
      sums.bias_stride[axis] = bias_extent(axis) == 1 ? 0 : bias_ ? stride : grads_.bias_stride[axis];
      stride *= bias_extent(axis);
    }
    sums.clear_bias = grads_.bias && each_row_once();
    return sums;
  }

  void clear(int share) const {
    memset(memory_.of(share), 0, sizeof(double) * (slopes_ + table_ + sinks_) + sizeof(float) * bias_);
  }

  // To be called once, before and after all shares.
  void begin() const {
    if (grads_.bias) ask_for_large_pages(grads_.bias, sizeof(float) * bias_span());
    if (grads_.bias && bias_direct_ && !(has_blocks() && each_row_once())) {
      for_bias([&](float* to, int64_t) { *to = 0; });
    }
  }
  void merge() const {
    const TermSums total = sums(0);
    for (int s = 1; s < shares_; s++) {
      const TermSums more = sums(s);
      const double* from = reinterpret_cast<const double*>(memory_.of(s));
      double* to = reinterpret_cast<double*>(memory_.of(0));
      for (int64_t i = 0; i < slopes_ + table_ + sinks_; i++) to[i] += from[i];
      for (int64_t i = 0; i < bias_; i++) total.bias[i] += more.bias[i];
    }
    write_positions(total);
    for (int64_t i = 0; i < sinks_; i++) grads_.sinks[i] = (float)total.sinks[i];
    if (bias_) for_bias([&](float* to, int64_t i) { *to = total.bias[i]; });
  }

 private:
  int64_t entries() const { return 2 * problem_.radius + 1; }
  bool has_blocks() const { return problem_.queries > 0; }

  // Entries of the bias' gradient along an axis; 1 where it is summed.
  int64_t bias_extent(int axis) const {
    const int64_t sizes[] = {problem_.batch, problem_.heads, problem_.queries, problem_.keys};
    return grads_.bias_stride[axis] == 0 ? 1 : sizes[axis];
  }
  // From its first entry to its last.
  int64_t bias_span() const {
    int64_t span = 1;
    for (int axis = 0; axis < 4; axis++) {
      if (bias_extent(axis) == 0) return 0;
      span += (bias_extent(axis) - 1) * grads_.bias_stride[axis];
    }
    return span;
  }
  // Whether no two blocks add to the same entry.
  bool each_row_once() const {
    const int64_t sizes[] = {problem_.batch, problem_.heads, problem_.queries};
    for (int axis = 0; axis < 3; axis++) {
      if (sizes[axis] > 1 && grads_.bias_stride[axis] == 0) return false;
    }
    return true;
  }

  template <class Body>
  void for_bias(const Body& body) const {
    const int64_t (&stride)[4] = grads_.bias_stride;
    int64_t at = 0;
    for (int64_t b = 0; b < bias_extent(0); b++) {
      for (int64_t h = 0; h < bias_extent(1); h++) {
        for (int64_t i = 0; i < bias_extent(2); i++) {
          float* row = grads_.bias + b * stride[0] + h * stride[1] + i * stride[2];
          for (int64_t j = 0; j < bias_extent(3); j++) body(row + j * stride[3], at++);
        }
      }
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

  const sightline_problem& problem_;
  const sightline_gradients& grads_;
  int shares_;
  bool bias_direct_;
  int64_t slopes_, table_, sinks_, bias_;
  WorkerMemory memory_;
};

}  // namespace sightline
