// The largest weights of each row.
#pragma once

#include <cmath>

#include "per_level/readouts/scratch.h"

namespace sightline {
namespace {

inline void offer_chunk(const Block& block, const ReadoutScratch& scratch, const ChunkScores& chunk,
                        Span keys, int slab) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
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
  if (found.key < 0) return found;
  const float weight = exp2f(scratch.lse.log_weight(found.score, row));
  return {found.score, weight > 1 ? 1.0f : weight, found.key};  // rounding may pass 1
}

}  // namespace
}  // namespace sightline
