// weights: the running softmax over chunks of keys.
//
//   m' = max(m, masked);  decay = 2^(m - m')
//   weights = 2^(masked - m');  l = l * decay + sum weights
//
// and at the end  lse = m + log l.
#pragma once

#include <cmath>

#include "per_level/stages/dropout.h"
#include "per_level/stages/lse.h"
#include "per_level/stages/scores.h"

namespace sightline {
namespace {

struct ForwardScratch {
  ScoreScratch scores;
  float* context_t;   // [slab][e][slab row]
  float* highest;     // m: [kBlockRows], in units of log 2
  float* sum;         // l: [kBlockRows]
  uint64_t* streams;  // of the dropout pattern
  float* seen;        // bits, as the chunk's weights lie (products/seen.h); null: nothing can be hidden
};

template <class Products>
ForwardScratch take_forward(const sightline_problem& p, Scratch& scratch) {
  ForwardScratch forward;
  forward.scores = take_scores<Products>(p, scratch);
  forward.context_t = scratch.take<float>(p.value_width * kBlockRows);
  forward.highest = scratch.take<float>(kBlockRows);
  forward.sum = scratch.take<float>(kBlockRows);
  forward.streams = take_streams(p, scratch);
  forward.seen = may_hide(p) ? scratch.take<float>(kMaxChunkKeys * kSlabRows) : nullptr;
  return forward;
}

// A sink is a key without a value: it stands in the sum before any other does.
inline void start_rows(const Block& block, const ForwardScratch& scratch) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  const sightline_problem& p = *block.problem;
  const float sink = p.sinks ? p.sinks[block.h * p.sinks_stride[0]] : -kInfinity;
  for (int row = 0; row < slab_rows(block); row++) {
    scratch.highest[row] = to_log2(sink);
    scratch.sum[row] = sink == -kInfinity ? 0.0f : 1.0f;
  }
  // Vectors without queries stay as they are: in a short block, clearing all takes as long as a product.
  for (int slab = 0; slab < slabs(block); slab++) {
    float* context_t = scratch.context_t + slab * block.value_width * kSlabRows;
    with_vectors(slab_vectors(block, slab), [&](auto n) {
      for (int64_t e = 0; e < block.value_width; e++) {
        SL_UNROLL for (int v = 0; v < n.value; v++) store(context_t + e * kSlabRows + v * kLanes, Vec{});
      }
    });
  }
}

// One word of weights for each lane, of the scores of `keys` keys (at most kElements; the rest weighs 0).
// The sum of a row's weights is that of all of them; only those that `keep` leaves meet their values.
template <class Products, class Keep>
SL_INLINE Vec weigh(const float* scores, int keys, Vec subtract, Vec& sum, const Keep& keep, int key,
                    int vector) {
  Vec weights[Products::kElements] = {};
  SL_UNROLL for (int k = 0; k < keys; k++) {
    const Vec weight = exp2(load(scores + k * kSlabRows) - subtract);
    sum += weight;
    weights[k] = keep(weight, key + k, vector);
  }
  return Products::join(weights);
}

// masked -> weights in place, for one patch: rows of words, and the sums of what is not yet rounded to them.
template <class Products, int vectors, class Keep>
void exponentiate(float* scores, int keys, const Vec* shift, Vec* sums, const Keep& keep) {
  constexpr int step = Products::kElements;
  Vec subtract[vectors], sum[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) subtract[v] = shift[v], sum[v] = sums[v];
  const float* from = scores;
  float* to = scores;
  int key = 0;
#pragma GCC unroll 1
  for (; key + step <= keys; key += step, from += step * kSlabRows, to += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      store(to + v * kLanes, weigh<Products>(from + v * kLanes, step, subtract[v], sum[v], keep, key, v));
    }
  }
  if (key < keys) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      store(to + v * kLanes,
            weigh<Products>(from + v * kLanes, keys - key, subtract[v], sum[v], keep, key, v));
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) sums[v] = sum[v];
}

// Turns the chunk's scores into weights, and moves m and l on. `decay` is what older sums shrink by.
template <class Products>
void weigh_chunk(const Block& block, const Dropout& dropout, const ForwardScratch& scratch,
                 const ChunkScores& chunk, int64_t chunk_begin, int slab, Vec* decay) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  float *highest = scratch.highest + slab * kSlabRows, *sum = scratch.sum + slab * kSlabRows;
  Vec shift[kSlabVectors], sums[kSlabVectors] = {};
  for (int v = 0; v < kSlabVectors; v++) {
    const Vec before = load(highest + v * kLanes);
    const Vec after = max_of(before, chunk.highest[v]);
    // A row that has seen nothing yet: subtracting -infinity would give NaN, subtracting 0 gives weights 0.
    shift[v] = select(equal(after, splat(-kInfinity)), Vec{}, after);
    // Exactly 1 while the maximum stands: the polynomial's 1 - 1e-7 would add up over many chunks.
    decay[v] = select(equal(before, shift[v]), splat(1.0f), exp2(before - shift[v]));
    store(highest + v * kLanes, after);
  }
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const Place place = place_of(block, patch, slab, chunk_begin);
    with_vectors(patch.vectors, [&](auto n) {
      with_keep(dropout, place, [&](const auto& keep) {
        exponentiate<Products, n.value>(scores_of(scratch.scores, patch), patch.keys, shift + patch.vector,
                                        sums + patch.vector, keep);
      });
    });
  }
  for (int v = 0; v < kSlabVectors; v++) {
    store(sum + v * kLanes, fma(load(sum + v * kLanes), decay[v], sums[v]));
  }
}

inline void write_lse(const Block& block, const ForwardScratch& scratch, double* lse) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int row = 0; row < block.count; row++) {
    lse[block.out_row() + row] = natural_lse(scratch.highest[row], scratch.sum[row]);
  }
}

}  // namespace
}  // namespace sightline
