// The masked scores of one chunk of keys for one slab of queries: what forward pass and readouts share.
#pragma once

#include "stages.h"
#include "tiles.h"

namespace sightline {
namespace {

struct ScoreScratch {
  float* query_t;  // [slab][d][slab row]
  float* scores;   // [key][slab row]
  Ranges ranges;
  StageScratch stages;
  Ahead* ahead;
};

inline ScoreScratch take_scores(const sightline_problem& p, Scratch& scratch) {
  ScoreScratch scores;
  scores.query_t = scratch.take<float>(p.width * kBlockRows);
  scores.scores = scratch.take<float>(kMaxChunkKeys * kSlabRows);
  scores.ranges = take_ranges(p, scratch);
  scores.stages = take_stages(p, scratch);
  scores.ahead = nullptr;
  return scores;
}

// Vectors of slab `slab` that hold queries.
SL_INLINE int slab_vectors(const Block& block, int slab) {
  return smaller(kSlabVectors, block.vectors() - slab * kSlabVectors);
}
SL_INLINE int slabs(const Block& block) { return (block.vectors() + kSlabVectors - 1) / kSlabVectors; }

// Q^T, times the factor that makes scores come out in the units of the stages.
inline void pack_query(const Block& block, const Terms& terms, float* query_t) {
  for (int slab = 0; slab < slabs(block); slab++) {
    const int row = slab * kSlabRows;
    transpose_in(block.query.row(row), block.query.stride, smaller(kSlabRows, block.count - row), block.width,
                 slab_vectors(block, slab), terms.query_factor, query_t + slab * block.width * kSlabRows,
                 kSlabRows);
  }
}

struct ChunkScores {
  Patch patches[kMaxPatches];
  int count;
  Vec highest[kSlabVectors];  // per lane, over all patches; starts from -infinity
};

SL_INLINE float* scores_of(const ScoreScratch& scratch, const Patch& patch) {
  return scratch.scores + patch.key * kSlabRows + patch.vector * kLanes;
}

inline void score_patch(const Block& block, const Terms& terms, const ScoreScratch& scratch, Span chunk,
                        int slab, const Patch& patch, const uint8_t* visible, Vec* highest) {
  const float* query_t = scratch.query_t + slab * block.width * kSlabRows + patch.vector * kLanes;
  float* scores = scores_of(scratch, patch);
  const bool staged = terms.any || patch.edge;
  Vec unstaged[kSlabVectors] = {};
  with_vectors(patch.vectors, [&](auto n) {
    scores_product<n.value>(block.key.row(chunk.begin + patch.key), block.key.stride, patch.keys, query_t,
                            block.width, scores, staged ? unstaged : highest, *scratch.ahead);
  });
  if (!staged) return;
  apply_stages(block, terms, scratch.ranges, patch, place_of(block, patch, slab, chunk.begin), scratch.stages,
               scores, visible, highest);
}

// Fills scratch.scores; the result lists the patches that were computed. The rest of the chunk is hidden.
inline void score_chunk(const Block& block, const Terms& terms, const ScoreScratch& scratch, Span chunk,
                        bool last, int slab, ChunkScores& out) {
  SL_UNROLL for (int v = 0; v < kSlabVectors; v++) out.highest[v] = splat(-kInfinity);
  Patch patches[kMaxPatches];
  const int count =
      make_patches(scratch.ranges, slab * kSlabVectors, slab_vectors(block, slab), chunk, last, patches);
  out.count = 0;
  for (int i = 0; i < count; i++) {
    const Patch& patch = patches[i];
    uint8_t* visible = nullptr;
    if (terms.visible.data) {
      visible = scratch.stages.visible + patch.key * kSlabRows + patch.vector * kLanes;
      if (!fetch_visible(terms.visible, patch, place_of(block, patch, slab, chunk.begin), visible)) continue;
    }
    score_patch(block, terms, scratch, chunk, slab, patch, visible, out.highest + patch.vector);
    out.patches[out.count++] = patch;
  }
}

// Calls body(chunk, last_of_its_segment) for every chunk of keys in which some query sees something.
template <class Body>
SL_INLINE void for_chunks(const Ranges& ranges, const Body& body) {
  for (Span segment = next_segment(ranges, 0); segment.begin < segment.end;
       segment = next_segment(ranges, segment.end)) {
    const int keys = chunk_keys(segment);
    for (int64_t begin = segment.begin; begin < segment.end; begin += keys) {
      const int64_t end = smaller(segment.end, begin + keys);
      body(Span{begin, end}, end == segment.end);
    }
  }
}

}  // namespace
}  // namespace sightline
