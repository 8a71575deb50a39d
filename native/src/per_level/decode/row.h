// One query row of a decode with its terms resolved.
#pragma once

#include "per_level/decode/products.h"
#include "per_level/stages/terms.h"

namespace sightline {
namespace {

// One query row with its terms resolved; null pointers leave a term out.
struct DecodeRow {
  int64_t h, i;
  const int32_t* ranges;
  const uint8_t* visible;
  int64_t bias;  // where its row of the bias begins, in elements
  float slope;   // in units of log 2
  const float* table;
  int64_t position;
};

// Row `index` of the group's rows, which stand head by head.
SL_INLINE DecodeRow make_row(const sightline_problem& p, int64_t b, int64_t g, int64_t index) {
  DecodeRow row = {};
  row.h = g * (p.heads / p.kv_heads) + index / p.queries;
  row.i = index % p.queries;
  if (p.ranges) {
    row.ranges = p.ranges + b * p.ranges_stride[0] + row.h * p.ranges_stride[1] + row.i * p.ranges_stride[2];
  }
  if (p.visible) {
    row.visible =
        p.visible + b * p.visible_stride[0] + row.h * p.visible_stride[1] + row.i * p.visible_stride[2];
  }
  row.bias = b * p.bias_stride[0] + row.h * p.bias_stride[1] + row.i * p.bias_stride[2];
  if (p.slopes) row.slope = p.slopes[b * p.slopes_stride[0] + row.h * p.slopes_stride[1]] * kLog2e;
  if (p.table) row.table = p.table + row.h * p.table_stride[0];
  row.position = row.i + (p.offset ? p.offset[b * p.offset_stride[0]] : 0);
  return row;
}

SL_INLINE IntVec lane_numbers() {
  IntVec numbers;
  SL_UNROLL for (int l = 0; l < kLanes; l++) numbers[l] = l;
  return numbers;
}

// Replaces every vector: s = body(first key of the vector, s), counted within the span.
template <class Body>
SL_INLINE void for_row(int count, float* scores, const Body& body) {
  for (int k = 0; k < count; k += kLanes) store(scores + k, body(k, load(scores + k)));
}

}  // namespace
}  // namespace sightline
