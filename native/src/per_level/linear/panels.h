// Weights of a linear layer as its tiles read them: cut along the depth, and each cut in panels of columns,
// [cut][panel][depth of the cut][lanes of the panel]. The last panel has as few vectors of lanes as its
// columns need; columns that are missing in the last one are 0.
#pragma once

#include "per_level/linear/tile.h"
#include "per_level/products/transpose.h"
#include "shared/linear.h"

namespace sightline {
namespace {

constexpr int64_t kLinearDepth = 768;  // of a cut, at most

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

inline int64_t padded_columns(int64_t columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

// Vectors of lanes of the panel that begins with a column.
inline int panel_vectors(int64_t columns, int64_t column) {
  return (int)smaller<int64_t>(kLinearVectors, (padded_columns(columns) - column) / kLanes);
}

// Where the panel that begins with a column lies.
SL_INLINE int64_t panel_place(int64_t columns, const LinearCut& cut, int64_t column) {
  return cut.begin * padded_columns(columns) + column * cut.size();
}

// One panel of a weight: numbers of a column lie side by side, or those of a depth, or none.
SL_INLINE void pack_panel(const LinearWeight& b, int64_t column, const LinearCut& cut, float* to) {
  const int columns = (int)smaller<int64_t>(kLinearLanes, b.columns - column);
  const int vectors = panel_vectors(b.columns, column), lanes = vectors * kLanes;
  const float* from = b.data + column * b.stride[0] + cut.begin * b.stride[1];
  if (b.stride[1] == 1) {
    return transpose_in(ScaledRows<float>{from, b.stride[0], 1.0f}, columns, cut.size(), vectors, to, lanes);
  }
  for (int64_t d = 0; d < cut.size(); d++, from += b.stride[1], to += lanes) {
    if (b.stride[0] == 1 && columns == lanes) {
      for (int v = 0; v < vectors; v++) store(to + v * kLanes, load(from + v * kLanes));
      continue;
    }
    for (int l = 0; l < lanes; l++) to[l] = l < columns ? from[l * b.stride[0]] : 0.0f;
  }
}

int64_t linear_floats(int64_t columns, int64_t depth) { return padded_columns(columns) * depth; }

// Columns [first, first + columns), by whole panels.
void linear_pack(const LinearWeight& b, int64_t first, int64_t columns, float* to) {
  for (int64_t at = 0; at < LinearCut::count(b.depth); at++) {
    const LinearCut cut(b.depth, at);
    for (int64_t column = first; column < first + columns; column += kLinearLanes) {
      pack_panel(b, column, cut, to + panel_place(b.columns, cut, column));
    }
  }
}

}  // namespace
}  // namespace sightline
