// Sums of a function of weights and scores, along rows and along columns.
#pragma once

#include <type_traits>

#include "per_level/readouts/sums.h"

namespace sightline {
namespace {

// What a function may look at: vectors of one key's rows.
struct Pairs {
  Vec score, weight;  // masked, in units of log 2
  Vec steps;          // i - j
};

// A hidden pair has weight 0 and score -infinity, and is left out. A spoiled one has weight NaN.
template <int function>
SL_INLINE Vec value_of(const Pairs& pairs, Vec threshold) {
  const Vec weight = pairs.weight;
  if (function == SIGHTLINE_WEIGHT) return weight;
  if (function == SIGHTLINE_WEIGHT_SQUARED) return weight * weight;
  if (function == SIGHTLINE_WEIGHT_TIMES_DISTANCE) return weight * absolute(pairs.steps);
  const Mask hidden = equal(pairs.score, splat(-kInfinity));
  const Vec score = select(hidden, Vec{}, pairs.score) * splat(kLn2);
  if (function == SIGHTLINE_SCORE) return score + (weight - weight);
  if (function == SIGHTLINE_WEIGHT_TIMES_SCORE) return weight * score;
  const Vec above = select(greater(weight, threshold), splat(1.0f), weight - weight);
  return select(hidden, Vec{}, above);
}

// `steps`: positions of the first vector's rows relative to the patch's first key; `to`: null, or the sums of
// its keys, lane by lane.
template <int vectors, int function>
void sum_function(const float* scores, int keys, const LseRows& rows, Vec steps, Vec threshold, float* sums,
                  float* to) {
  const LseVectors<vectors> lse(rows);
  Vec sum[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) sum[v] = load(sums + v * kLanes);
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    Vec total = {};
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec score = load(scores + k * kSlabRows + v * kLanes);
      const Pairs pairs = {score, exp2(lse.log_weight(score, v)), steps + splat((float)(v * kLanes - k))};
      const Vec value = value_of<function>(pairs, threshold);
      sum[v] += value;
      total += value;
    }
    if (to) store(to + k * kLanes, load(to + k * kLanes) + total);
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) store(sums + v * kLanes, sum[v]);
}

template <class Body>
SL_INLINE void with_function(int32_t function, const Body& body) {
  switch (function) {
    case SIGHTLINE_WEIGHT:
      return body(std::integral_constant<int, SIGHTLINE_WEIGHT>());
    case SIGHTLINE_WEIGHT_SQUARED:
      return body(std::integral_constant<int, SIGHTLINE_WEIGHT_SQUARED>());
    case SIGHTLINE_SCORE:
      return body(std::integral_constant<int, SIGHTLINE_SCORE>());
    case SIGHTLINE_WEIGHT_TIMES_SCORE:
      return body(std::integral_constant<int, SIGHTLINE_WEIGHT_TIMES_SCORE>());
    case SIGHTLINE_WEIGHT_TIMES_DISTANCE:
      return body(std::integral_constant<int, SIGHTLINE_WEIGHT_TIMES_DISTANCE>());
    default:
      return body(std::integral_constant<int, SIGHTLINE_WEIGHT_ABOVE>());
  }
}

// `key_sums`: null, or those of the chunk's first key.
inline void sum_function_of_chunk(const Block& block, const sightline_readouts& out,
                                  const ReadoutScratch& scratch, const ChunkScores& chunk,
                                  int64_t chunk_begin, int slab, float* key_sums) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const Place place = place_of(block, patch, slab, chunk_begin);
    float* to = key_sums ? key_sums + patch.key * kLanes : nullptr;
    with_function(out.function, [&](auto function) {
      with_vectors(patch.vectors, [&](auto n) {
        sum_function<n.value, function.value>(scores_of(scratch.scores, patch), patch.keys,
                                              scratch.lse.from(place.row), steps_of(block, out, place),
                                              splat(out.threshold), scratch.row_sums + place.row, to);
      });
    });
  }
}

}  // namespace
}  // namespace sightline
