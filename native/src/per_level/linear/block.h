// A part of a linear layer's product: panels that fit into the second cache meet the rows, as many at a time
// as a tile has.
//
// Sums run over one cut of the depth and are then added to `out`: which they are depends on the depth alone,
// so a row's result is the same, bit by bit, in any batch and on any number of threads.
#pragma once

#include "per_level/linear/panels.h"
#include "per_level/memory/scratch.h"

namespace sightline {
namespace {

constexpr int64_t kLinearColumns = kLanes == 16 ? 512 : 256;  // 800 or 400 KB of L2

class LinearBlock {
 public:
  LinearBlock(const Linear& p, const LinearPart& part, void* memory) : p_(p), part_(part) {
    Scratch scratch(memory);
    rows_ = scratch.take<float>(kLinearRows * kRowStride);
    edge_ = scratch.take<float>((kLinearRows + 1) * kLinearLanes);
    used_ = scratch.used();
  }
  size_t used() const { return used_; }

  void run() {
    for (int64_t at = 0; at < LinearCut::count(p_.depth); at++) {
      const LinearCut cut(p_.depth, at);
      for (int64_t c = 0; c < part_.columns; c += kLinearColumns) {
        multiply(cut, part_.column + c, smaller(kLinearColumns, part_.columns - c));
      }
    }
  }

 private:
  // A cache line further apart than a power of two, at which rows would fall into the same cache sets.
  static constexpr int64_t kRowStride = kLinearDepth + 16;

  // All rows with columns [first, first + columns).
  void multiply(const LinearCut& cut, int64_t first, int64_t columns) {
    const int64_t end = part_.row + part_.rows;
    int64_t row = part_.row;
    for (; row + kLinearRows <= end; row += kLinearRows) with_rows<kLinearRows>(cut, row, first, columns);
    for (; row + 4 <= end; row += 4) with_rows<4>(cut, row, first, columns);
    for (; row + 2 <= end; row += 2) with_rows<2>(cut, row, first, columns);
    if (row < end) with_rows<1>(cut, row, first, columns);
  }

  template <int rows>
  SL_OUTLINE void with_rows(const LinearCut& cut, int64_t row, int64_t first, int64_t columns) {
    for (int r = 0; r < rows && cut.size() > 0; r++) {
      memcpy(rows_ + r * kRowStride, p_.a + (row + r) * p_.a_stride + cut.begin, sizeof(float) * cut.size());
    }
    Ahead ahead = next_rows(cut, row + rows);
    const bool adds = cut.begin > 0;
    for (int64_t c = first; c < first + columns; c += kLinearLanes) {
      const float* panel = p_.packed + panel_place(p_.columns, cut, c);
      const LinearOut out = {p_.out + row * p_.out_stride + c, p_.out_stride,
                             p_.bias && !adds ? p_.bias + c : nullptr, adds};
      const int lanes = (int)smaller<int64_t>(kLinearLanes, first + columns - c);
      if (lanes == kLinearLanes) {
        linear_tile<rows>(rows_, kRowStride, panel, cut.size(), out, ahead);
      } else {
        edge_tile<rows>(panel, cut.size(), out, lanes, ahead);
      }
    }
  }

  Ahead next_rows(const LinearCut& cut, int64_t row) const {
    const int64_t rows = smaller<int64_t>(kLinearRows, part_.row + part_.rows - row);
    Ahead ahead;
    if (rows <= 0 || cut.size() == 0) return ahead;
    ahead.add(p_.a + row * p_.a_stride + cut.begin, sizeof(float) * p_.a_stride, rows,
              sizeof(float) * cut.size());
    return ahead;
  }

  // The last columns, by way of memory of our own: what lies behind them is neither read nor written.
  template <int rows>
  SL_INLINE void edge_tile(const float* panel, int64_t depth, const LinearOut& out, int lanes, Ahead& ahead) {
    float* bias = edge_ + kLinearRows * kLinearLanes;
    for (int l = 0; l < kLinearLanes; l++) bias[l] = out.bias && l < lanes ? out.bias[l] : 0.0f;
    linear_tile<rows>(rows_, kRowStride, panel, depth, {edge_, kLinearLanes, bias, false}, ahead);
    for (int r = 0; r < rows; r++) {
      float* to = out.data + r * out.stride;
      for (int l = 0; l < lanes; l++) to[l] = (out.adds ? to[l] : 0.0f) + edge_[r * kLinearLanes + l];
    }
  }

  const Linear& p_;
  const LinearPart part_;
  float *rows_, *edge_;
  size_t used_;
};

size_t linear_scratch() { return LinearBlock({}, {}, nullptr).used(); }
void linear_block(const Linear& p, const LinearPart& part, void* scratch) {
  LinearBlock(p, part, scratch).run();
}

}  // namespace
}  // namespace sightline
