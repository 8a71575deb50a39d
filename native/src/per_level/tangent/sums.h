// What a block of queries sums up besides its context:
//
//   moment  = sum weights * d masked                           (the tangent of the lse, times l)
//   tangent = sum weights * d masked * value + weights * d value
//
// and at the end  d lse = moment / l,  d context = tangent / l - d lse * context.
#pragma once

#include "per_level/forward/context.h"
#include "per_level/tangent/operands.h"

namespace sightline {
namespace {

struct TangentScratch {
  ForwardScratch forward;
  float* query_t;  // [slab][column][slab row], of the moving query
  float *key_room, *value_room;
  float* moved;      // [key][slab row]: d masked, then weights * d masked
  float* tangent_t;  // [slab][e][slab row]
  float* moment;     // [kBlockRows]
};

inline TangentScratch take_tangent(const sightline_problem& p, const sightline_tangents& t,
                                   Scratch& scratch) {
  const int64_t width = p.width * ((t.query != nullptr) + (t.key != nullptr));
  TangentScratch tangent;
  tangent.forward = take_forward<TangentProducts>(p, scratch);
  if (p.softcap > 0) tangent.forward.scores.cap_slope = scratch.take<float>(kMaxChunkKeys * kSlabRows);
  tangent.query_t = scratch.take<float>(width * kBlockRows);
  tangent.key_room = scratch.take<float>(kMaxChunkKeys * width);
  tangent.value_room = t.value ? scratch.take<float>(kMaxChunkKeys * p.value_width) : nullptr;
  tangent.moved = scratch.take<float>(kMaxChunkKeys * kSlabRows);
  tangent.tangent_t = scratch.take<float>(p.value_width * kBlockRows);
  tangent.moment = scratch.take<float>(kBlockRows);
  return tangent;
}

inline void start_tangent(const Block& block, const TangentScratch& scratch) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  memset(scratch.tangent_t, 0, sizeof(float) * block.value_width * kBlockRows);
  memset(scratch.moment, 0, sizeof(float) * kBlockRows);
}

// d masked of one patch: the product, times the slope of the cap.
inline void move_patch(const Block& block, const Moves& moves, const TangentScratch& scratch,
                       const WordRows& key, int slab, const Patch& patch, float* moved) {
  {
    const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
    Vec unused[kSlabVectors] = {};
    with_vectors(patch.vectors, [&](auto n) {
      scores_product<n.value, TangentProducts>(
          key.row(patch.key), key.stride, patch.keys,
          scratch.query_t + slab * moves.width * kSlabRows + patch.vector * kLanes, moves.width, moved,
          unused, *scratch.forward.scores.ahead);
    });
  }
  if (!scratch.forward.scores.cap_slope) return;
  const Zone zone(block.zones, SIGHTLINE_STAGE_CAPPED);
  const float* slope = scratch.forward.scores.cap_slope + (moved - scratch.moved);
  for_vectors(patch, moved,
              [&](int k, int v, Vec d) { return d * load(slope + k * kSlabRows + v * kLanes); });
}

// moved = weights * moved, in place; sums[] takes their sum. What is hidden has weight 0, whatever it holds.
template <int vectors>
void weigh_moved(const float* weights, int keys, float* moved, Vec* sums) {
  Vec sum[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) sum[v] = sums[v];
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++, weights += kSlabRows, moved += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec weight = load(weights + v * kLanes);
      const Vec product = select(equal(weight, Vec{}), Vec{}, weight * load(moved + v * kLanes));
      sum[v] += product;
      store(moved + v * kLanes, product);
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) sums[v] = sum[v];
}

// The chunk's share of the moment; leaves weights * d masked in scratch.moved.
inline void add_moment(const Block& block, const Moves& moves, const TangentScratch& scratch,
                       const ChunkScores& chunk, const WordRows& key, int slab, const Vec* decay) {
  Vec sums[kSlabVectors] = {};
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const float* weights = scores_of(scratch.forward.scores, patch);
    float* moved = scratch.moved + (weights - scratch.forward.scores.scores);
    move_patch(block, moves, scratch, key, slab, patch, moved);
    const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
    with_vectors(patch.vectors,
                 [&](auto n) { weigh_moved<n.value>(weights, patch.keys, moved, sums + patch.vector); });
  }
  float* moment = scratch.moment + slab * kSlabRows;
  for (int v = 0; v < kSlabVectors; v++) {
    store(moment + v * kLanes, fma(load(moment + v * kLanes), decay[v], sums[v]));
  }
}

// sums = sums * decay + factors . rows, over all patches of a chunk; the first that touches a vector applies
// its decay.
inline void add_rows(const Block& block, const ChunkScores& chunk, const WordRows& rows, const float* factors,
                     float* sums, Vec* decay, Ahead& ahead) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    with_vectors(patch.vectors, [&](auto n) {
      context_product<n.value, TangentProducts>(rows.row(patch.key), rows.stride, block.value_width,
                                                factors + patch.key * kSlabRows + patch.vector * kLanes,
                                                patch.keys, sums + patch.vector * kLanes,
                                                decay + patch.vector, ahead);
    });
    for (int v = 0; v < patch.vectors; v++) decay[patch.vector + v] = splat(1.0f);
  }
}

// d context and d lse of the block's rows. Overwrites tangent_t.
template <class Element>
void write_tangent(const Block& block, const TangentScratch& scratch, Element* to, int64_t stride,
                   float* lse) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  for (int v = 0; v < block.vectors(); v++) {
    const Vec sum = load(scratch.forward.sum + v * kLanes);
    const Vec inverse = select(equal(sum, Vec{}), Vec{}, splat(1.0f) / sum);
    const Vec mean = load(scratch.moment + v * kLanes) * inverse;
    store(scratch.moment + v * kLanes, mean);
    const int64_t at = v / kSlabVectors * block.value_width * kSlabRows + v % kSlabVectors * kLanes;
    for (int64_t e = 0; e < block.value_width; e++) {
      float* tangent = scratch.tangent_t + at + e * kSlabRows;
      store(tangent, load(tangent) - mean * load(scratch.forward.context_t + at + e * kSlabRows));
    }
    transpose_out(scratch.tangent_t + at, kSlabRows, inverse, block.value_width,
                  smaller(kLanes, block.count - v * kLanes), to + v * kLanes * stride, stride);
  }
  memcpy(lse + block.out_row(), scratch.moment, sizeof(float) * block.count);
}

}  // namespace
}  // namespace sightline
