// How a backward pass is shared out among threads.
//
// All query heads of one key/value head add to the same gradients of keys and values: together they are a
// unit. The blocks of all units stand in one line, which is cut into one share per worker, of equal work.
// A share keeps sums of its own; where a cut falls inside a unit, the sums of its shares are added in order.
// Nothing depends on who is faster: the same number of threads gives the same result.
#pragma once

#include "schedule.h"
#include "threads.h"

namespace sightline {

class BackwardSchedule {
 public:
  BackwardSchedule(const Kernels& kernels, const sightline_problem& p, int threads)
      : problem_(p),
        block_rows_(kernels.block_rows),
        blocks_((p.queries + block_rows_ - 1) / block_rows_),
        per_unit_(p.heads / p.kv_heads * blocks_) {
    const double work =
        (double)p.batch * p.heads * p.queries * p.keys * (3.0 * p.width + 2.0 * p.value_width);
    const double most = work / 2 / kWorkPerThread + 1;
    shares_ = (int)smallest(threads, items(), most < INT32_MAX ? (int64_t)most : INT32_MAX);
    if (shares_ < 1) shares_ = 1;
  }

  struct Item {
    int64_t b, h, first;
  };

  int shares() const { return shares_; }
  int64_t units() const { return problem_.batch * problem_.kv_heads; }
  int64_t per_unit() const { return per_unit_; }
  int64_t items() const { return units() * per_unit_; }
  int64_t unit_of(int64_t item) const { return item / per_unit_; }

  Item item(int64_t index) const {
    const int64_t unit = index / per_unit_, at = index % per_unit_;
    const int64_t group = problem_.heads / problem_.kv_heads;
    return {unit / problem_.kv_heads, unit % problem_.kv_heads * group + at / blocks_,
            at % blocks_ * block_rows_};
  }

  // Share s is items cuts[s] to cuts[s + 1]; `cuts` has shares() + 1 entries.
  void cut(int64_t* cuts) const {
    double total = 0;
    if (shares_ > 1) {
      for (int64_t i = 0; i < items(); i++) total += cost(item(i));
    }
    double before = 0;
    int64_t next = 0;
    cuts[0] = 0;
    for (int s = 1; s < shares_; s++) {
      const double target = total * s / shares_;
      for (; next < items(); next++) {
        const double c = cost(item(next));
        if (before + c / 2 > target) break;
        before += c;
      }
      cuts[s] = next;
    }
    cuts[shares_] = items();
  }

 private:
  static int64_t smallest(int64_t a, int64_t b, int64_t c) {
    const int64_t least = a < b ? a : b;
    return least < c ? least : c;
  }

  // Keys that the block's rows see, about: a look at every eighth row and the last one.
  double cost(const Item& item) const {
    const sightline_problem& p = problem_;
    if (!p.ranges) return (double)p.keys + kBlockCost;
    const int64_t rows = p.queries - item.first < block_rows_ ? p.queries - item.first : (int64_t)block_rows_;
    const int32_t* ranges =
        p.ranges + item.b * p.range_stride[0] + item.h * p.range_stride[1] + item.first * p.range_stride[2];
    double keys = 0;
    for (int64_t slot = 0; slot < p.range_count; slot++) {
      int32_t lo = INT32_MAX, hi = 0;
      for (int64_t row = 0; row < rows; row = row + 8 < rows || row == rows - 1 ? row + 8 : rows - 1) {
        const int32_t* range = ranges + row * p.range_stride[2] + 2 * slot;
        if (range[0] >= range[1]) continue;
        if (range[0] < lo) lo = range[0];
        if (range[1] > hi) hi = range[1];
      }
      if (lo < hi) keys += hi - lo;
    }
    return keys + kBlockCost;
  }

  static constexpr double kBlockCost = 32;  // of starting and ending a block, in keys

  const sightline_problem& problem_;
  int block_rows_;
  int64_t blocks_, per_unit_;
  int shares_;
};

// Gradients of keys and values while they are summed. A share begins in slot 0 if a cut before it falls
// inside its first unit, whose sums stay there for the merge; all others follow in slot 1.
class KeyMemory {
 public:
  KeyMemory(const sightline_problem& p, const sightline_gradients& g, int shares)
      : key_floats_(g.key ? p.keys * padded_width(p.width) : 0),
        value_floats_(g.value ? p.keys * padded_width(p.value_width) : 0),
        slots_(shares > 1 ? 2 : 1),
        memory_(shares * slots_, bytes()) {}

  bool ok() const { return memory_.ok(); }
  size_t bytes() const { return sizeof(float) * (key_floats_ + value_floats_); }

  KeySums sums(int share, int slot) const {
    float* base = reinterpret_cast<float*>(memory_.of(share * slots_ + slot % slots_));
    return {key_floats_ ? base : nullptr, value_floats_ ? base + key_floats_ : nullptr};
  }
  void clear(const KeySums& sums) const {
    if (sums.key) memset(sums.key, 0, sizeof(float) * key_floats_);
    if (sums.value) memset(sums.value, 0, sizeof(float) * value_floats_);
  }

 private:
  size_t key_floats_, value_floats_;
  int slots_;
  WorkerMemory memory_;
};

// Gradients of sinks and bias terms while they are summed, one set a share. The dense bias' goes straight to
// its place where no two shares can meet.
class TermMemory {
 public:
  TermMemory(const sightline_problem& p, const sightline_gradients& g, int shares)
      : problem_(p),
        grads_(g),
        shares_(shares),
        bias_direct_(shares == 1 || each_row_once()),
        slopes_(g.slopes ? (p.slope_stride[0] ? p.batch : 1) * p.heads : 0),
        table_(g.table ? (p.table_stride ? p.heads : 1) * entries() : 0),
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
    sums.slope_stride[0] = problem_.slope_stride[0] ? problem_.heads : 0;
    sums.slope_stride[1] = 1;
    sums.table_stride = problem_.table_stride ? entries() : 0;
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
      grads_.slopes[i / p.heads * p.slope_stride[0] + i % p.heads * p.slope_stride[1]] =
          (float)total.slopes[i];
    }
    for (int64_t i = 0; i < table_; i++) {
      grads_.table[i / entries() * p.table_stride + i % entries()] = (float)total.table[i];
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
