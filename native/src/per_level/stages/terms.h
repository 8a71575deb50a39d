// What stands between scores and softmax in one block: the problem's terms with every pointer resolved.
#pragma once

#include "per_level/blocks/patches.h"
#include "per_level/stages/order.h"
#include "shared/hides.h"

namespace sightline {
namespace {

template <class T>
struct Plane {  // one head's part of a [B, H, N, M] array, from the block's first query on
  const T* data;
  int64_t row_stride, key_stride;
};

template <class T>
SL_INLINE Plane<T> plane_of(const Block& block, const void* data, const int64_t (&stride)[4]) {
  if (!data) return {nullptr, 0, 0};
  return {static_cast<const T*>(data) + block.b * stride[0] + block.h * stride[1] + block.first * stride[2],
          stride[2], stride[3]};
}

struct Terms {
  float query_factor;  // what makes scores of the bare product: scaled, or divided by the cap
  float cap;           // 0: none; in units of log 2
  bool positions;      // slopes or a table
  float slope;         // in units of log 2
  const float* table;
  int64_t radius, offset;
  Plane<uint8_t> visible;
  bool any;
};

inline Terms make_terms(const Block& block) {
  const sightline_problem& p = *block.problem;
  Terms terms = {};
  const bool capped = p.softcap > 0;
  terms.query_factor = score_factor(p);
  terms.cap = capped ? p.softcap * kLog2e : 0.0f;
  if (p.slopes) terms.slope = p.slopes[block.b * p.slopes_stride[0] + block.h * p.slopes_stride[1]] * kLog2e;
  if (p.table) terms.table = p.table + block.h * p.table_stride[0];
  terms.positions = p.slopes || p.table;
  terms.radius = p.radius;
  terms.offset = p.offset ? p.offset[block.b * p.offset_stride[0]] : 0;
  terms.visible = plane_of<uint8_t>(block, p.visible, p.visible_stride);
  terms.any = capped || terms.positions || p.bias || (p.visible && !p.visible_map);
  return terms;
}

// Whether some lane of a patch may not see an element of the words that it reads.
template <class Products>
SL_INLINE bool may_hide(const Terms& terms, const Patch& patch) {
  return patch.edge || terms.any || patch.keys % Products::kElements != 0;
}

struct StageScratch {
  float* strip;      // bias by distance
  uint8_t* visible;  // [key][slab row]
};

inline StageScratch take_stages(const sightline_problem& p, Scratch& scratch) {
  StageScratch stages = {};
  if (p.slopes || p.table) stages.strip = scratch.take<float>(kMaxChunkKeys + kSlabRows + kLanes);
  if (p.visible) stages.visible = scratch.take<uint8_t>(kMaxChunkKeys * kSlabRows + 16);
  return stages;
}

}  // namespace
}  // namespace sightline
