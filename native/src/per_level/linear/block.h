// A part of a linear layer's product: so many rows as fit into the second cache meet one panel after another.
//
// Of a panel a strip of depths meets all of these rows while it lies in the first cache. Between strips sums
// wait in memory of their own, as rows of `out` lie far apart. Which numbers are added in which order depends
// on the depth alone, so a row's result is the same, bit by bit, in any batch and on any number of threads.
#pragma once

#include "per_level/linear/panels.h"
#include "per_level/memory/scratch.h"

namespace sightline {
namespace {

constexpr int64_t kLinearHeight = kLanes == 16 ? 192 : 96;  // rows: 600 or 300 KB of L2

// Depths of a strip. After so many sums begin anew, and what there was is added up: a chain of 384 additions
// would be three times as far off as PyTorch's products of few rows are.
constexpr int64_t kLinearStrip = 128;

class LinearBlock {
 public:
  LinearBlock(const Linear& p, const LinearPart& part, void* memory) : p_(p), part_(part) {
    const int64_t height = smaller(kLinearHeight, part.rows);
    Scratch scratch(memory);
    rows_ = scratch.take<float>(height * kRowStride);
    sums_ = scratch.take<float>(height * kLinearLanes);
    first_ = scratch.take<float>(kLinearLanes);
    used_ = scratch.used();
  }
  size_t used() const { return used_; }

  void run() {
    for (int64_t at = 0; at < LinearCut::count(p_.depth); at++) {
      for (int64_t row = 0; row < part_.rows; row += kLinearHeight) {
        multiply(LinearCut(p_.depth, at), part_.row + row, smaller(kLinearHeight, part_.rows - row));
      }
    }
  }

 private:
  // A cache line further apart than a power of two, at which rows would fall into the same cache sets.
  static constexpr int64_t kRowStride = kLinearDepth + 16;

  // Rows [row, row + rows) of all columns.
  void multiply(const LinearCut& cut, int64_t row, int64_t rows) {
    if (cut.size() > 0) {
      gather(p_.a + row * p_.a_stride[0] + cut.begin * p_.a_stride[1], rows, cut.size());
    }
    const int64_t end = part_.column + part_.columns;
    for (int64_t c = part_.column; c < end; c += kLinearLanes) {
      const int lanes = (int)smaller<int64_t>(kLinearLanes, end - c);
      if (lanes == kLinearLanes) {
        whole_panel(cut, row, rows, c);
      } else {
        last_panel(cut, row, rows, c, lanes);
      }
    }
  }

  // Copies rows to where they lie side by side: they meet every panel, and may lie in as many pages.
  void gather(const float* from, int64_t rows, int64_t depth) {
    const int64_t across = p_.a_stride[0], along = p_.a_stride[1];
    if (along == 1) {
      for (int64_t r = 0; r < rows; r++) {
        memcpy(rows_ + r * kRowStride, from + r * across, sizeof(float) * depth);
      }
    } else if (across == 1) {
      for (int64_t d = 0; d < depth; d += kLanes) {
        transpose_in(ScaledRows<float>{from + d * along, along, 1.0f},
                     (int)smaller<int64_t>(kLanes, depth - d), rows, 1, rows_ + d, kRowStride);
      }
    } else {
      for (int64_t r = 0; r < rows; r++) {
        for (int64_t d = 0; d < depth; d++) rows_[r * kRowStride + d] = from[r * across + d * along];
      }
    }
  }

  // Columns of which there are as many as lanes: sums go where they belong.
  void whole_panel(const LinearCut& cut, int64_t row, int64_t rows, int64_t c) {
    float* out = p_.out + row * p_.out_stride + c;
    LinearSums sums = {out, p_.out_stride, out, p_.out_stride, true};
    if (cut.begin == 0) sums.from = first_sums(c, kLinearLanes), sums.from_stride = 0;
    strips(cut, rows, c, sums);
  }

  // The last columns: what lies behind them is neither read nor written.
  void last_panel(const LinearCut& cut, int64_t row, int64_t rows, int64_t c, int lanes) {
    float* out = p_.out + row * p_.out_stride + c;
    const float* first = cut.begin == 0 ? first_sums(c, lanes) : nullptr;
    for (int64_t r = 0; r < rows; r++) {
      const float* from = first ? first : out + r * p_.out_stride;
      for (int l = 0; l < kLinearLanes; l++) sums_[r * kLinearLanes + l] = l < lanes ? from[l] : 0.0f;
    }
    strips(cut, rows, c, {sums_, kLinearLanes, sums_, kLinearLanes, false});
    for (int64_t r = 0; r < rows; r++) {
      memcpy(out + r * p_.out_stride, sums_ + r * kLinearLanes, sizeof(float) * lanes);
    }
  }

  // The bias of columns from c on, or 0.
  const float* first_sums(int64_t c, int lanes) {
    for (int l = 0; l < kLinearLanes; l++) first_[l] = p_.bias && l < lanes ? p_.bias[c + l] : 0.0f;
    return first_;
  }

  // From the sums that are there to those that go out, strip by strip.
  void strips(const LinearCut& cut, int64_t rows, int64_t c, const LinearSums& whole) {
    const float* panel = p_.packed + panel_place(p_.columns, cut, c);
    const int vectors = panel_vectors(p_.columns, c);
    int64_t d = 0;
    do {
      const Strip strip = {rows_ + d, rows, panel + d * vectors * kLanes,
                           smaller(kLinearStrip, cut.size() - d)};
      LinearSums sums = {sums_, kLinearLanes, sums_, kLinearLanes, false};
      if (d == 0) sums.from = whole.from, sums.from_stride = whole.from_stride;
      d += strip.depth;
      if (d == cut.size()) sums.to = whole.to, sums.to_stride = whole.to_stride, sums.asks = whole.asks;
      tiles<kLinearVectors>(vectors, strip, sums);
    } while (d < cut.size());
  }

  struct Strip {
    const float* a;
    int64_t rows;
    const float* panel;
    int64_t depth;
  };

  template <int most>
  void tiles(int vectors, const Strip& strip, const LinearSums& sums) {
    if constexpr (most > 1) {
      if (vectors < most) return tiles<most - 1>(vectors, strip, sums);
    }
    tiles_of_vectors<most>(strip, sums);
  }

  template <int vectors>
  SL_OUTLINE void tiles_of_vectors(const Strip& strip, const LinearSums& sums) {
    int64_t row = 0;
    row = tiles_of<kLinearRows, vectors>(row, strip, sums);
    row = tiles_of<4, vectors>(row, strip, sums);
    row = tiles_of<2, vectors>(row, strip, sums);
    tiles_of<1, vectors>(row, strip, sums);
  }

  // Tiles of so many rows from `row` on, and the row behind them.
  template <int height, int vectors>
  SL_INLINE int64_t tiles_of(int64_t row, const Strip& strip, const LinearSums& sums) {
    for (; row + height <= strip.rows; row += height) {
      const LinearSums here = {sums.from + row * sums.from_stride, sums.from_stride,
                               sums.to + row * sums.to_stride, sums.to_stride, sums.asks};
      const float* a = strip.a + row * kRowStride;
      if (row == 0) {
        linear_tile<height, vectors, true>(a, kRowStride, strip.panel, strip.depth, here);
      } else {
        linear_tile<height, vectors, false>(a, kRowStride, strip.panel, strip.depth, here);
      }
    }
    return row;
  }

  const Linear& p_;
  const LinearPart part_;
  float *rows_, *sums_, *first_;
  size_t used_;
};

size_t linear_scratch(int64_t rows) { return LinearBlock({}, {0, rows, 0, 0}, nullptr).used(); }
void linear_block(const Linear& p, const LinearPart& part, void* scratch) {
  LinearBlock(p, part, scratch).run();
}

}  // namespace
}  // namespace sightline
