// What the readouts of one block work in.
#pragma once

#include "per_level/readouts/cells.h"
#include "per_level/readouts/topk.h"
#include "per_level/stages/scores.h"

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
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int row = 0; row < kBlockRows; row++) {
    const float x = row < block.count ? lse[block.out_row() + row] : -kInfinity;
    scratch.lse[row] = x == -kInfinity ? kInfinity : to_log2(x);
    scratch.information[row] = scratch.distance[row] = 0;
  }
  clear_lists(scratch.top);
  clear_cells(scratch.cells);
}

}  // namespace
}  // namespace sightline
