// Weights of a linear layer as its tiles read them: cut along the depth, and each cut in panels of columns,
// [cut][panel][depth of the cut][kLinearLanes]. Columns that are missing in the last panel are 0.
#pragma once

#include "per_level/linear/tile.h"
#include "per_level/products/transpose.h"
#include "shared/linear.h"

namespace sightline {
namespace {

constexpr int64_t kLinearDepth = 384;  // of a cut, at most: a tile's rows stay in L1

// Cut number `at` of a depth.
struct LinearCut {
  int64_t begin, end;
  LinearCut(int64_t depth, int64_t at)
      : begin(depth * at / count(depth)), end(depth * (at + 1) / count(depth)) {}
  int64_t size() const { return end - begin; }
  static int64_t count(int64_t depth) {
    return larger<int64_t>(1, (depth + kLinearDepth - 1) / kLinearDepth);
  }
};

inline int64_t padded_columns(int64_t columns) {
  return (columns + kLinearLanes - 1) / kLinearLanes * kLinearLanes;
}

// Where the panel that begins with a column lies.
SL_INLINE int64_t panel_place(int64_t columns, const LinearCut& cut, int64_t column) {
  return cut.begin * padded_columns(columns) + column * cut.size();
}

// One panel of a weight whose numbers of a column lie side by side, or any others.
SL_INLINE void pack_panel(const LinearWeight& b, int64_t column, const LinearCut& cut, float* to) {
  const int columns = (int)smaller<int64_t>(kLinearLanes, b.columns - column);
  const float* from = b.data + column * b.stride[0] + cut.begin * b.stride[1];
  if (b.stride[1] == 1) {
    return transpose_in(ScaledRows<float>{from, b.stride[0], 1.0f}, columns, cut.size(), kLinearVectors, to,
                        kLinearLanes);
  }
  for (int64_t d = 0; d < cut.size(); d++, from += b.stride[1], to += kLinearLanes) {
    for (int l = 0; l < kLinearLanes; l++) to[l] = l < columns ? from[l * b.stride[0]] : 0.0f;
  }
}

int64_t linear_floats(int64_t columns, int64_t depth) { return padded_columns(columns) * depth; }

void linear_pack(const LinearWeight& b, float* to) {
  for (int64_t at = 0; at < LinearCut::count(b.depth); at++) {
    const LinearCut cut(b.depth, at);
    for (int64_t column = 0; column < b.columns; column += kLinearLanes) {
      pack_panel(b, column, cut, to + panel_place(b.columns, cut, column));
    }
  }
}

}  // namespace
}  // namespace sightline
