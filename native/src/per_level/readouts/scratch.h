// What the readouts of one block work in.
#pragma once

#include "per_level/readouts/cells.h"
#include "per_level/readouts/topk.h"
#include "per_level/stages/lse.h"
#include "per_level/stages/scores.h"

namespace sightline {
namespace {

struct ReadoutScratch {
  ScoreScratch scores;
  LseRows lse;         // [kBlockRows]
  float* spoiled;      // [kBlockRows], bits: rows that see NaN, whose lse is NaN
  bool careful;        // there are some
  float* information;  // [kBlockRows]: sum of w log2 w
  float* distance;     // [kBlockRows]
  float* row_sums;     // [kBlockRows]: of the function
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
  readout.lse = take_lse(scratch);
  readout.spoiled = scratch.take<float>(kBlockRows);
  readout.careful = false;
  readout.information = scratch.take<float>(kBlockRows);
  readout.distance = scratch.take<float>(kBlockRows);
  readout.row_sums = scratch.take<float>(kBlockRows);
  readout.top.capacity = list_capacity(wants_topk(out) ? out.k : wants_max(out) ? 1 : 0);
  readout.top.scores = scratch.take<float>(readout.top.capacity * kBlockRows);
  readout.top.keys = scratch.take<int32_t>(readout.top.capacity * kBlockRows);
  readout.cells = take_cells(out, scratch);
  return readout;
}

// A row with nothing to look at has lse -infinity; +infinity makes all its weights 0, as it does for the
// lanes past the last query. A spoiled row gets +infinity, too, and scores of +infinity where it sees a key:
// 2^(inf - inf) is NaN, a maximum of scores is one, and what is hidden keeps weight 0.
inline void start_readout(const Block& block, const double* lse, ReadoutScratch& scratch) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int row = 0; row < kBlockRows; row++) {
    const double x = row < block.count ? lse[block.out_row() + row] : -(double)kInfinity;
    const int32_t bits = x == x ? 0 : -1;
    memcpy(scratch.spoiled + row, &bits, sizeof bits);
    scratch.careful |= bits != 0;
    scratch.lse.set(row, bits ? kNoWeights : split_lse(x));
    scratch.information[row] = scratch.distance[row] = scratch.row_sums[row] = 0;
  }
  clear_lists(scratch.top);
  clear_cells(scratch.cells);
}

// Lanes past the last query hold 0 times the keys, which may be NaN: hidden, where lanes are summed up.
inline void hide_spare_lanes(const Block& block, const ReadoutScratch& scratch, const ChunkScores& chunk,
                             int slab) {
  const int last = block.count / kLanes - slab * kSlabVectors, real = block.count % kLanes;
  if (real == 0 || last < 0 || last >= kSlabVectors) return;
  float spare[kLanes];
  for (int lane = 0; lane < kLanes; lane++) spare[lane] = lane < real ? 0.0f : 1.0f;
  const Mask hidden = greater(load(spare), Vec{});
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    if (last < patch.vector || last >= patch.vector + patch.vectors) continue;
    float* scores = scores_of(scratch.scores, patch) + (last - patch.vector) * kLanes;
    for (int k = 0; k < patch.keys; k++, scores += kSlabRows) {
      store(scores, select(hidden, splat(-kInfinity), load(scores)));
    }
  }
}

inline void spoil_scores(const Block& block, const ReadoutScratch& scratch, ChunkScores& chunk, int slab) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  const float* spoiled = scratch.spoiled + slab * kSlabRows;
  const Vec infinite = splat(kInfinity);
  for (int v = 0; v < kSlabVectors; v++) {
    const Vec bits = load(spoiled + v * kLanes);
    if (any(is_nan(bits))) chunk.highest[v] = infinite;
  }
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    for_vectors(patch, scores_of(scratch.scores, patch), [&](int, int v, Vec s) {
      const Vec bits = load(spoiled + (patch.vector + v) * kLanes);
      return select(is_nan(keep_bits(bits, seen_bits(s))), infinite, s);
    });
  }
}

}  // namespace
}  // namespace sightline
