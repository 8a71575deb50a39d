// How a backward pass is shared out among threads.
//
// All query heads of one key/value head add to the same gradients of keys and values: together they are a
// unit. The blocks of all units stand in one line, which is cut into one share per worker, of equal work.
// A share keeps sums of its own; where a cut falls inside a unit, the sums of its shares are added in order.
// Nothing depends on who is faster: the same number of threads gives the same result.
#pragma once

#include "once/schedules/blocks.h"

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
    const int32_t* ranges = p.ranges + item.b * p.ranges_stride[0] + item.h * p.ranges_stride[1] +
                            item.first * p.ranges_stride[2];
    double keys = 0;
    for (int64_t slot = 0; slot < p.range_count; slot++) {
      int32_t lo = INT32_MAX, hi = 0;
      for (int64_t row = 0; row < rows; row = row + 8 < rows || row == rows - 1 ? row + 8 : rows - 1) {
        const int32_t* range = ranges + row * p.ranges_stride[2] + 2 * slot;
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

}  // namespace sightline
