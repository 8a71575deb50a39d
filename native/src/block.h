// One block of work: up to 64 consecutive queries of one head, with every pointer resolved to that head.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace sightline {
namespace {

struct Rows {  // a matrix with contiguous rows
  const float* data;
  int64_t stride;
  SL_INLINE const float* row(int64_t i) const { return data + i * stride; }
};

struct Block {
  const sightline_problem* problem;
  int64_t b, h, first;  // first query
  int count;            // queries, 1 to kBlockRows
  Rows query, key, value;
  int64_t width, value_width, keys;

  int64_t out_row() const { return (b * problem->heads + h) * problem->queries + first; }
  // Vectors of this block that hold at least one query.
  int vectors() const { return (count + kLanes - 1) / kLanes; }
};

SL_INLINE Block make_block(const sightline_problem& p, int64_t b, int64_t h, int64_t first) {
  Block block = {};
  const int64_t g = h / (p.heads / p.kv_heads);
  block.problem = &p;
  block.b = b, block.h = h, block.first = first;
  block.count = (int)smaller<int64_t>(kBlockRows, p.queries - first);
  const float *query = static_cast<const float*>(p.query), *key = static_cast<const float*>(p.key),
              *value = static_cast<const float*>(p.value);
  block.query = {query + b * p.query_stride[0] + h * p.query_stride[1] + first * p.query_stride[2],
                 p.query_stride[2]};
  block.key = {key + b * p.key_stride[0] + g * p.key_stride[1], p.key_stride[2]};
  if (value) block.value = {value + b * p.value_stride[0] + g * p.value_stride[1], p.value_stride[2]};
  block.width = p.width, block.value_width = p.value_width, block.keys = p.keys;
  return block;
}

}  // namespace
}  // namespace sightline
