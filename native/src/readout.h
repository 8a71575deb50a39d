// Reading a block of queries' weights without keeping them: given the row's lse, any weight is
// 2^(masked - lse), so entropy, distance, what each key receives, the largest weights and those of cells of
// keys come from one pass over the scores. There is no value product and no running maximum.
#pragma once

#include <cmath>

#include "cells.h"
#include "scores.h"
#include "topk.h"

namespace sightline {
namespace {

struct ReadoutScratch {
  ScoreScratch scores;
  float* lse;          // [kBlockRows], in units of log 2
  float* information;  // [kBlockRows]: sum of w log2 w
  float* distance;     // [kBlockRows]
  TopLists top;
  CellScratch cells;
};

inline bool wants_max(const sightline_readouts& out) {
  return out.max_weight || out.max_index || out.max_score;
}
inline bool wants_topk(const sightline_readouts& out) { return out.topk_weights || out.topk_indices; }

template <class Products>
ReadoutScratch take_readout(const sightline_problem& p, const sightline_readouts& out, Scratch& scratch) {
  ReadoutScratch readout;
  readout.scores = take_scores<Products>(p, scratch);
  readout.lse = scratch.take<float>(kBlockRows);
  readout.information = scratch.take<float>(kBlockRows);
  readout.distance = scratch.take<float>(kBlockRows);
  readout.top.capacity = list_capacity(wants_topk(out) ? out.k : wants_max(out) ? 1 : 0);
  readout.top.scores = scratch.take<float>(readout.top.capacity * kBlockRows);
  readout.top.keys = scratch.take<int32_t>(readout.top.capacity * kBlockRows);
  readout.cells = take_cells(out, scratch);
  return readout;
}

// A row with nothing to look at has lse -infinity; +infinity makes all its weights 0, as it does for the
// lanes past the last query.
inline void start_readout(const Block& block, const float* lse, const ReadoutScratch& scratch) {
  for (int row = 0; row < kBlockRows; row++) {
    const float x = row < block.count ? lse[block.out_row() + row] : -kInfinity;
    scratch.lse[row] = x == -kInfinity ? kInfinity : to_log2(x);
    scratch.information[row] = scratch.distance[row] = 0;
  }
  clear_lists(scratch.top);
  clear_cells(scratch.cells);
}

// --- Sums over weights ---

// Which sums are wanted.
struct Sums {
  bool entropy, distance, received;
  SL_INLINE bool any() const { return entropy || distance || received; }
};

// What a slab's rows sum up, lane by lane.
struct RowSums {
  Vec lse[kSlabVectors];
  Vec information[kSlabVectors];
  Vec distance[kSlabVectors];
};

// Weights of one patch: sums w log2 w and w |steps - k| per lane, and adds each key's weights, lane by lane,
// to `received`. `steps`: positions of the first vector's rows relative to the patch's first key.
// `guarded`: scores may be -infinity, whose share of the entropy is 0 and not 0 * infinity.
template <int vectors, bool entropy, bool distance, bool received, bool guarded>
void sum_weights(const float* scores, int keys, RowSums& rows, int first, Vec steps, float* to) {
  Vec subtract[vectors], information[vectors], far[vectors], step[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    subtract[v] = rows.lse[first + v], information[v] = far[v] = Vec{};
    step[v] = steps + splat((float)(v * kLanes));
  }
  Vec key = {};
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    Vec total = {};
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec log_weight = load(scores + k * kSlabRows + v * kLanes) - subtract[v];
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
  RowSums rows;
  float *information = scratch.information + slab * kSlabRows,
        *distance = scratch.distance + slab * kSlabRows;
  for (int v = 0; v < kSlabVectors; v++) {
    rows.lse[v] = load(scratch.lse + slab * kSlabRows + v * kLanes);
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

// --- Cells of keys ---

inline void gather_chunk(const Block& block, const ReadoutScratch& scratch, const ChunkScores& chunk,
                         int64_t chunk_begin, int slab) {
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const Place place = place_of(block, patch, slab, chunk_begin);
    with_vectors(patch.vectors, [&](auto n) {
      gather_cells<n.value>(scratch.cells, scores_of(scratch.scores, patch), patch.keys, place.key,
                            scratch.lse + place.row, place.row);
    });
  }
}

// --- Largest weights ---

inline void offer_chunk(const ReadoutScratch& scratch, const ChunkScores& chunk, Span keys, int slab) {
  for (int v = 0; v < kSlabVectors; v++) {
    const int vector = slab * kSlabVectors + v;
    if (!any(greater(chunk.highest[v], threshold(scratch.top, vector)))) continue;
    for (int i = 0; i < chunk.count; i++) {
      const Patch& patch = chunk.patches[i];
      if (v < patch.vector || v >= patch.vector + patch.vectors) continue;
      offer(scratch.top, vector, scores_of(scratch.scores, patch) + (v - patch.vector) * kLanes, patch.keys,
            keys.begin + patch.key);
    }
  }
}

struct Entry {
  float score;  // in units of log 2
  float weight;
  int64_t key;  // -1: none
};

inline Entry list_entry(const ReadoutScratch& scratch, int row, int rank) {
  const TopLists& top = scratch.top;
  const int at = (row / kLanes * top.capacity + rank) * kLanes + row % kLanes;
  Entry found = {top.scores[at], 0.0f, top.keys[at]};
  if (found.key < 0) {
    if (scratch.lse[row] != scratch.lse[row]) found.weight = scratch.lse[row];  // a NaN row has no largest
    return found;
  }
  const float weight = exp2f(found.score - scratch.lse[row]);
  return {found.score, weight > 1 ? 1.0f : weight, found.key};  // rounding may pass 1
}

// --- Results ---

inline void write_row(const ReadoutScratch& scratch, const sightline_readouts& out, int row, int64_t at) {
  if (out.entropy) {
    // Large logits round the lse, and weights may then pass 1: no entropy is below 0. NaN stays NaN.
    const float entropy = -kLn2 * scratch.information[row];
    out.entropy[at] = entropy < 0 ? 0.0f : entropy;
  }
  if (out.distance) out.distance[at] = scratch.distance[row];
  if (wants_max(out)) {
    const Entry first = list_entry(scratch, row, 0);
    if (out.max_weight) out.max_weight[at] = first.weight;
    if (out.max_index) out.max_index[at] = first.key;
    if (out.max_score) out.max_score[at] = from_log2(first.score);
  }
  for (int rank = 0; wants_topk(out) && rank < out.k; rank++) {
    const Entry entry = list_entry(scratch, row, rank);
    if (out.topk_weights) out.topk_weights[at * out.k + rank] = entry.weight;
    if (out.topk_indices) out.topk_indices[at * out.k + rank] = entry.key;
  }
}

template <class Products>
void readout_chunk(const Block& block, const Terms& terms, const ReadoutScratch& scratch,
                   const sightline_readouts& out, Span chunk, bool last, float* received) {
  const WordRows key = read_keys<Products>(block, scratch.scores.operands.key, chunk);
  const Sums sums = {out.entropy != nullptr, out.distance != nullptr, received != nullptr};
  for (int slab = 0; slab < slabs(block); slab++) {
    ChunkScores scores;
    score_chunk<Products>(block, terms, scratch.scores, key, chunk, last, slab, scores);
    if (sums.any()) {
      sum_chunk(block, out, scratch, scores, chunk.begin, terms.any, slab, sums,
                received ? received + chunk.begin * kLanes : nullptr);
    }
    if (wants_cells(out)) gather_chunk(block, scratch, scores, chunk.begin, slab);
    if (scratch.top.capacity) offer_chunk(scratch, scores, chunk, slab);
  }
}

template <class Products>
void readout_block_with(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h,
                        int64_t first, void* memory, const float* lse, const sightline_readouts& out,
                        float* received) {
  Scratch carver(memory);
  ReadoutScratch scratch = take_readout<Products>(p, out, carver);
  const Block block = make_block(p, b, h, first);
  const Terms terms = make_terms(block);
  read_ranges(block, scratch.scores.ranges);
  find_operands<Products>(block, packed, scratch.scores.operands);
  Ahead nothing_ahead;
  scratch.scores.ahead = &nothing_ahead;
  pack_query<Products>(block, terms, scratch.scores.query_t);
  start_readout(block, lse, scratch);
  if (wants_cells(out)) scratch.cells.of_key = out.cells + b * out.cell_stride;
  for_chunks(scratch.scores.ranges, [&](Span chunk, bool last) {
    readout_chunk<Products>(block, terms, scratch, out, chunk, last, received);
  });
  for (int row = 0; row < block.count; row++) write_row(scratch, out, row, block.out_row() + row);
  write_cells(block, scratch.cells, scratch.lse, out);
}

size_t readout_scratch(const sightline_problem& p, const sightline_readouts& out) {
  return with_products(p.dtype, [&](auto products) {
    Scratch counter(nullptr);
    take_readout<decltype(products)>(p, out, counter);
    return counter.used();
  });
}

void readout_block(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h, int64_t first,
                   void* memory, const float* lse, const sightline_readouts& out, float* received) {
  with_products(p.dtype, [&](auto products) {
    readout_block_with<decltype(products)>(p, packed, b, h, first, memory, lse, out, received);
  });
}

// --- Received ---

size_t received_floats(int64_t keys) { return (size_t)keys * kLanes; }

// [M][lanes] -> [M], in place.
void fold_received(float* received, int64_t keys) {
  for (int64_t k = 0; k < keys; k++) received[k] = sum_of_lanes(load(received + k * kLanes));
}

}  // namespace
}  // namespace sightline
