// context: the weighted sums of values, shrunk whenever a row's maximum rises, and divided by l at the end.
#pragma once

#include "per_level/forward/weights.h"

namespace sightline {
namespace {

SL_INLINE float* seen_of(const ForwardScratch& scratch, const Patch& patch) {
  return scratch.seen + patch.key * kSlabRows + patch.vector * kLanes;
}

// Which pairs of a chunk are seen, while its scores still say so.
template <class Products>
void note_chunk(const Block& block, const ForwardScratch& scratch, const ChunkScores& chunk) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    with_vectors(patch.vectors, [&](auto n) {
      note_seen<Products, n.value>(scores_of(scratch.scores, patch), patch.keys, seen_of(scratch, patch));
    });
  }
}

// context = context * decay + weights . value; the first patch that touches a vector applies its decay.
template <class Products, bool careful>
void add_context(const Block& block, const Terms& terms, const ForwardScratch& scratch,
                 const ChunkScores& chunk, const WordRows& value, int slab, Vec* decay) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  float* context_t = scratch.context_t + slab * block.value_width * kSlabRows;
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const float* rows = values_from<Products>(value, patch.key).data;
    const float* weights = scores_of(scratch.scores, patch);
    const int count = (int)words<Products>(patch.keys);
    float* to = context_t + patch.vector * kLanes;
    with_vectors(patch.vectors, [&](auto n) {
      if (careful && may_hide<Products>(terms, patch)) {
        return seen_context_product<n.value, Products>(rows, value.stride, block.value_width, weights, count,
                                                       to, decay + patch.vector, *scratch.scores.ahead,
                                                       seen_of(scratch, patch));
      }
      context_product<n.value, Products>(rows, value.stride, block.value_width, weights, count, to,
                                         decay + patch.vector, *scratch.scores.ahead);
    });
    for (int v = 0; v < patch.vectors; v++) decay[patch.vector + v] = splat(1.0f);
  }
}

// Whether a sum is NaN, be it only that of a hidden value.
SL_OUTLINE bool has_nan(const Block& block, const ForwardScratch& scratch) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  Mask found = greater_int(IntVec{}, IntVec{});
  for (int slab = 0; slab < slabs(block); slab++) {
    const float* context_t = scratch.context_t + slab * block.value_width * kSlabRows;
    with_vectors(slab_vectors(block, slab), [&](auto n) {
      for (int64_t e = 0; e < block.value_width; e++) {
        SL_UNROLL for (int v = 0; v < n.value; v++) {
          found = either(found, is_nan(load(context_t + e * kSlabRows + v * kLanes)));
        }
      }
    });
  }
  return any(found);
}

// The rows of the context that this block writes.
SL_INLINE Rows context_rows(const Block& block, const ForwardOut& out) {
  return head_rows(out.context, out.context_stride, block.problem->dtype, block.b, block.h, block.first);
}

template <class Element>
void write_context(const Block& block, const ForwardScratch& scratch, Element* context, int64_t stride) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  for (int v = 0; v < block.vectors(); v++) {
    const Vec sum = load(scratch.sum + v * kLanes);
    const Vec inverse = select(equal(sum, Vec{}), Vec{}, splat(1.0f) / sum);
    const int slab = v / kSlabVectors;
    transpose_out(scratch.context_t + slab * block.value_width * kSlabRows + v % kSlabVectors * kLanes,
                  kSlabRows, inverse, block.value_width, smaller(kLanes, block.count - v * kLanes),
                  context + v * kLanes * stride, stride);
  }
}

}  // namespace
}  // namespace sightline
