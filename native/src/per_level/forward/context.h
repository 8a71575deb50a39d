// context: the weighted sums of values, shrunk whenever a row's maximum rises, and divided by l at the end.
#pragma once

#include "per_level/forward/weights.h"

namespace sightline {
namespace {

// context = context * decay + weights . value; the first patch that touches a vector applies its decay.
template <class Products>
void add_context(const Block& block, const ForwardScratch& scratch, const ChunkScores& chunk,
                 const WordRows& value, int slab, Vec* decay) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  float* context_t = scratch.context_t + slab * block.value_width * kSlabRows;
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    with_vectors(patch.vectors, [&](auto n) {
      context_product<n.value, Products>(value.row(patch.key / Products::kElements), value.stride,
                                         block.value_width, scores_of(scratch.scores, patch),
                                         (int)words<Products>(patch.keys), context_t + patch.vector * kLanes,
                                         decay + patch.vector);
    });
    for (int v = 0; v < patch.vectors; v++) decay[patch.vector + v] = splat(1.0f);
  }
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
