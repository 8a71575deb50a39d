// One block of work: up to 64 consecutive queries of one head, with every pointer resolved to that head.
#pragma once

#include "per_level/vectors/dtypes.h"
#include "shared/sizes.h"
#include "shared/zones.h"

namespace sightline {
namespace {

struct Rows {  // a matrix with contiguous rows, as the caller has it
  const char* data;
  int64_t stride;  // in elements
  int32_t dtype;   // a sightline_dtype

  int64_t bytes(int64_t elements) const { return elements * element_bytes(dtype); }
  Rows from(int64_t row) const { return {data + bytes(row * stride), stride, dtype}; }
  template <class Element>
  const Element* at(int64_t row) const {
    return reinterpret_cast<const Element*>(data) + row * stride;
  }
};

struct Block {
  const sightline_problem* problem;
  int64_t b, h, first;  // first query
  int count;            // queries, 1 to kBlockRows
  Rows query, key, value;
  int64_t width, value_width, keys;
  const Zones* zones;  // null: nobody listens

  int64_t out_row() const { return (b * problem->heads + h) * problem->queries + first; }
  // Vectors of this block that hold at least one query.
  int vectors() const { return (count + kLanes - 1) / kLanes; }
};

// Row `i` of head `h` and what follows it.
SL_INLINE Rows head_rows(const void* data, const int64_t (&stride)[3], int32_t dtype, int64_t b, int64_t h,
                         int64_t i) {
  const int64_t at = b * stride[0] + h * stride[1] + i * stride[2];
  return {static_cast<const char*>(data) + at * element_bytes(dtype), stride[2], dtype};
}

SL_INLINE Block make_block(const sightline_problem& p, int64_t b, int64_t h, int64_t first,
                           const Zones* zones) {
  Block block = {};
  const int64_t g = h / (p.heads / p.kv_heads);
  block.problem = &p;
  block.b = b, block.h = h, block.first = first;
  block.count = (int)smaller<int64_t>(kBlockRows, p.queries - first);
  block.query = head_rows(p.query, p.query_stride, p.dtype, b, h, first);
  block.key = head_rows(p.key, p.key_stride, p.dtype, b, g, 0);
  if (p.value) block.value = head_rows(p.value, p.value_stride, p.dtype, b, g, 0);
  block.zones = zones;
  block.width = p.width, block.value_width = p.value_width, block.keys = p.keys;
  return block;
}

// Vectors of slab `slab` that hold queries.
SL_INLINE int slab_vectors(const Block& block, int slab) {
  return smaller(kSlabVectors, block.vectors() - slab * kSlabVectors);
}
SL_INLINE int slabs(const Block& block) { return (block.vectors() + kSlabVectors - 1) / kSlabVectors; }
// Rows that those slabs have room for.
SL_INLINE int slab_rows(const Block& block) { return slabs(block) * kSlabRows; }

}  // namespace
}  // namespace sightline
