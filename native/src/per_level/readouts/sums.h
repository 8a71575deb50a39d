// Sums over weights: entropy, distance, and what each key receives.
#pragma once

#include "per_level/readouts/scratch.h"

namespace sightline {
namespace {

// Which sums are wanted.
struct Sums {
  bool entropy, distance, received;
  SL_INLINE bool any() const { return entropy || distance || received; }
};

// What a slab's rows sum up, lane by lane.
struct RowSums {
  LseRows lse;
  Vec information[kSlabVectors];
  Vec distance[kSlabVectors];
};

// Weights of one patch: sums w log2 w and w |steps - k| per lane, and adds each key's weights, lane by lane,
// to `received`. `steps`: positions of the first vector's rows relative to the patch's first key.
// `guarded`: scores may be -infinity, whose share of the entropy is 0 and not 0 * infinity.
template <int vectors, bool entropy, bool distance, bool received, bool guarded>
void sum_weights(const float* scores, int keys, RowSums& rows, int first, Vec steps, float* to) {
  const LseVectors<vectors> lse(rows.lse.from(first * kLanes));
  Vec information[vectors], far[vectors], step[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    information[v] = far[v] = Vec{};
    step[v] = steps + splat((float)(v * kLanes));
  }
  Vec key = {};
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    Vec total = {};
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec log_weight = lse.log_weight(load(scores + k * kSlabRows + v * kLanes), v);
      const Vec weight = exp2(log_weight);
      if (entropy) {
        const Vec log = guarded ? max_of(log_weight, splat(-1000.0f)) : log_weight;
        information[v] = fma(weight, log, information[v]);
      }
      if (distance) far[v] = fma(weight, absolute(step[v] - key), far[v]);
      if (received) total = v ? total + weight : weight;
    }
    if (distance) key += splat(1.0f);
    if (received) store(to + k * kLanes, load(to + k * kLanes) + total);
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    if (entropy) rows.information[first + v] += information[v];
    if (distance) rows.distance[first + v] += far[v];
  }
}

// The sums that are wanted as template arguments: body(entropy, distance, received), each a Flag.
template <bool value_>
struct Flag {
  static constexpr bool value = value_;
};
template <class Body>
SL_INLINE void with_flag(bool flag, const Body& body) {
  if (flag) return body(Flag<true>());
  body(Flag<false>());
}
template <class Body>
SL_INLINE void with_sums(const Sums& sums, const Body& body) {
  with_flag(sums.entropy, [&](auto entropy) {
    with_flag(sums.distance, [&](auto distance) {
      with_flag(sums.received, [&](auto received) { body(entropy, distance, received); });
    });
  });
}

// Positions of a patch's first rows, relative to its first key. Exact up to 2^24, then as float32 rounds.
inline Vec steps_of(const Block& block, const sightline_readouts& out, const Place& place) {
  const int64_t position = out.position ? out.position[block.b * out.position_stride] : 0;
  const int64_t first = block.first + place.row + position - place.key;
  float steps[kLanes];
  for (int lane = 0; lane < kLanes; lane++) steps[lane] = (float)(first + lane);
  return load(steps);
}

// `received` points at the sums of the chunk's first key.
inline void sum_chunk(const Block& block, const sightline_readouts& out, const ReadoutScratch& scratch,
                      const ChunkScores& chunk, int64_t chunk_begin, bool guarded, int slab, const Sums& sums,
                      float* received) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  RowSums rows;
  rows.lse = scratch.lse.from(slab * kSlabRows);
  float *information = scratch.information + slab * kSlabRows,
        *distance = scratch.distance + slab * kSlabRows;
  for (int v = 0; v < kSlabVectors; v++) {
    rows.information[v] = load(information + v * kLanes);
    rows.distance[v] = load(distance + v * kLanes);
  }
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const float* scores = scores_of(scratch.scores, patch);
    const Vec steps = sums.distance ? steps_of(block, out, place_of(block, patch, slab, chunk_begin)) : Vec{};
    float* to = sums.received ? received + patch.key * kLanes : nullptr;
    with_sums(sums, [&](auto entropy, auto distance, auto received) {
      with_flag(guarded || patch.edge, [&](auto hides) {
        with_vectors(patch.vectors, [&](auto n) {
          sum_weights<n.value, entropy.value, distance.value, received.value, hides.value>(
              scores, patch.keys, rows, patch.vector, steps, to);
        });
      });
    });
  }
  for (int v = 0; v < kSlabVectors; v++) {
    store(information + v * kLanes, rows.information[v]);
    store(distance + v * kLanes, rows.distance[v]);
  }
}

size_t received_floats(int64_t keys) { return (size_t)keys * kLanes; }

// [M][lanes] -> [M], in place.
void fold_received(float* received, int64_t keys) {
  for (int64_t k = 0; k < keys; k++) received[k] = sum_of_lanes(load(received + k * kLanes));
}

}  // namespace
}  // namespace sightline
