// The masked scores of one chunk of keys for one slab of queries: what forward pass and readouts share.
#pragma once

#include "per_level/products/operands.h"
#include "per_level/products/tiles.h"
#include "per_level/stages/patch.h"

namespace sightline {
namespace {

struct ScoreScratch {
  float* query_t;  // [slab][word of d][slab row]
  float* scores;   // [key][slab row]
  Operands operands;
  Ranges ranges;
  StageScratch stages;
  float* cap_slope;  // [key][slab row]: 1 - tanh^2; null: not wanted
  Ahead* ahead;
};

template <class Products>
ScoreScratch take_scores(const sightline_problem& p, Scratch& scratch) {
  ScoreScratch scores;
  scores.query_t = scratch.take<float>(row_words<Products>(p.width) * kBlockRows);
  scores.operands = take_operands<Products>(p, scratch);
  scores.scores = scratch.take<float>(kMaxChunkKeys * kSlabRows);
  scores.ranges = take_ranges<Products>(p, scratch);
  scores.stages = take_stages(p, scratch);
  scores.cap_slope = nullptr;
  scores.ahead = nullptr;
  return scores;
}

// Calls body(rows), where rows.read() reads queries from `row` on as words, times the factor if the products
// want it there.
template <class Products, class Body>
SL_INLINE void with_query_rows(const Block& block, const Terms& terms, int row, const Body& body) {
  const Rows& query = block.query;
  if constexpr (Products::kElements == 2) {
    body(PairedRows{query.at<Bfloat16>(row), query.stride, block.width});
  } else {
    with_element(query.dtype, [&](auto e) {
      typedef decltype(e) Element;
      body(ScaledRows<Element>{query.at<Element>(row), query.stride, terms.query_factor});
    });
  }
}

// Q^T.
template <class Products>
void pack_query(const Block& block, const Terms& terms, float* query_t) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
  const int64_t columns = row_words<Products>(block.width);
  for (int slab = 0; slab < slabs(block); slab++) {
    const int row = slab * kSlabRows;
    with_query_rows<Products>(block, terms, row, [&](const auto& rows) {
      transpose_in(rows, smaller(kSlabRows, block.count - row), columns, slab_vectors(block, slab),
                   query_t + slab * columns * kSlabRows, kSlabRows);
    });
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

// The product of one patch; `highest` (in and out) is the maximum of each lane.
template <class Products>
void multiply_patch(const Block& block, const Terms& terms, const ScoreScratch& scratch, const WordRows& key,
                    int slab, const Patch& patch, Vec* highest) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
  const int64_t columns = row_words<Products>(block.width);
  const float* query_t = scratch.query_t + slab * columns * kSlabRows + patch.vector * kLanes;
  with_vectors(patch.vectors, [&](auto n) {
    scores_product<n.value, Products>(key.row(patch.key), key.stride, patch.keys, query_t, columns,
                                      scores_of(scratch, patch), highest, *scratch.ahead, terms.query_factor);
  });
}

template <class Products>
void score_patch(const Block& block, const Terms& terms, const ScoreScratch& scratch, const WordRows& key,
                 Span chunk, int slab, const Patch& patch, const uint8_t* visible, Vec* highest) {
  const bool staged = terms.any || patch.edge;
  Vec unstaged[kSlabVectors] = {};
  multiply_patch<Products>(block, terms, scratch, key, slab, patch, staged ? unstaged : highest);
  if (!staged) return;
  float* scores = scores_of(scratch, patch);
  float* cap_slope = scratch.cap_slope ? scratch.cap_slope + (scores - scratch.scores) : nullptr;
  apply_stages(PatchStages{block, terms, scratch.ranges, patch, place_of(block, patch, slab, chunk.begin),
                           scratch.stages, scores, visible, cap_slope},
               block.zones);
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  raise_highest(patch, scores, highest);
}

// Fetches what the dense mask shows of a patch; returns where it is, and null if no entry is hidden. `hidden`
// is set where all are.
inline const uint8_t* visible_in(const Block& block, const Terms& terms, const ScoreScratch& scratch,
                                 int64_t chunk_begin, int slab, const Patch& patch, bool& hidden) {
  if (!terms.visible.data || !masks(scratch.ranges, slab * kSlabVectors, patch, chunk_begin)) return nullptr;
  const Zone zone(block.zones, SIGHTLINE_STAGE_MASKED);
  uint8_t* visible = scratch.stages.visible + patch.key * kSlabRows + patch.vector * kLanes;
  hidden = !fetch_visible(terms.visible, patch, place_of(block, patch, slab, chunk_begin), visible);
  return visible;
}

// Fills scratch.scores; the result lists the patches that were computed. The rest of the chunk is hidden.
// `key` holds the chunk's keys.
template <class Products>
void score_chunk(const Block& block, const Terms& terms, const ScoreScratch& scratch, const WordRows& key,
                 Span chunk, bool last, int slab, ChunkScores& out) {
  if (slab == 0) add_bias_ahead(*scratch.ahead, block, chunk);
  SL_UNROLL for (int v = 0; v < kSlabVectors; v++) out.highest[v] = splat(-kInfinity);
  Patch patches[kMaxPatches];
  const int count =
      make_patches(scratch.ranges, slab * kSlabVectors, slab_vectors(block, slab), chunk, last, patches);
  out.count = 0;
  for (int i = 0; i < count; i++) {
    const Patch& patch = patches[i];
    bool hidden = false;
    const uint8_t* visible = visible_in(block, terms, scratch, chunk.begin, slab, patch, hidden);
    if (hidden) continue;
    score_patch<Products>(block, terms, scratch, key, chunk, slab, patch, visible,
                          out.highest + patch.vector);
    out.patches[out.count++] = patch;
  }
}

}  // namespace
}  // namespace sightline
