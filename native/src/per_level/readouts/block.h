// Reading a block of queries' weights without keeping them: given the row's lse, any weight is
// 2^(masked - lse), so entropy, distance, what each key receives, sums of functions, the largest weights and
// those of cells of keys come from one pass over the scores. There is no value product and no running
// maximum.
#pragma once

#include "per_level/readouts/functions.h"
#include "per_level/readouts/largest.h"
#include "shared/work.h"

namespace sightline {
namespace {

// --- Cells of keys ---

inline void gather_chunk(const Block& block, const ReadoutScratch& scratch, const ChunkScores& chunk,
                         int64_t chunk_begin, int slab) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const Place place = place_of(block, patch, slab, chunk_begin);
    with_vectors(patch.vectors, [&](auto n) {
      gather_cells<n.value>(scratch.cells, scores_of(scratch.scores, patch), patch.keys, place.key,
                            scratch.lse.from(place.row), place.row);
    });
  }
}

// --- Results ---

inline void write_row(const ReadoutScratch& scratch, const sightline_readouts& out, int row, int64_t at) {
  if (out.entropy) {
    // A weight of 1 may round to more, and no entropy is below 0. NaN stays NaN.
    const float entropy = -kLn2 * scratch.information[row];
    out.entropy[at] = entropy < 0 ? 0.0f : entropy;
  }
  if (out.distance) out.distance[at] = scratch.distance[row];
  if (out.row_sums) out.row_sums[at] = scratch.row_sums[row];
  if (wants_max(out)) {
    const Entry first = list_entry(scratch, row, 0);
    if (out.max_weight) out.max_weight[at] = first.weight;
    if (out.max_index) out.max_index[at] = first.key;
    // A spoiled row has no largest score, as it has no weights.
    if (out.max_score)
      out.max_score[at] = first.score == kInfinity ? __builtin_nanf("") : from_log2(first.score);
  }
  for (int rank = 0; wants_topk(out) && rank < out.k; rank++) {
    const Entry entry = list_entry(scratch, row, rank);
    if (out.topk_weights) out.topk_weights[at * out.k + rank] = entry.weight;
    if (out.topk_indices) out.topk_indices[at * out.k + rank] = entry.key;
  }
}

inline void write_rows(const Block& block, const ReadoutScratch& scratch, const sightline_readouts& out) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int row = 0; row < block.count; row++) write_row(scratch, out, row, block.out_row() + row);
  write_cells(block, scratch.cells, scratch.lse, out);
}

template <class Products>
void readout_chunk(const Block& block, const Terms& terms, const ReadoutScratch& scratch,
                   const sightline_readouts& out, Span chunk, bool last, float* lane_sums) {
  const WordRows key = read_keys<Products>(block, scratch.scores.operands.key, chunk);
  const Sums sums = {out.entropy != nullptr, out.distance != nullptr, out.received != nullptr};
  if (lane_sums) lane_sums += chunk.begin * kLanes;
  for (int slab = 0; slab < slabs(block); slab++) {
    ChunkScores scores;
    score_chunk<Products>(block, terms, scratch.scores, key, chunk, last, slab, scores);
    if (scratch.careful) spoil_scores(block, scratch, scores, slab);
    if (lane_sums) hide_spare_lanes(block, scratch, scores, slab);
    if (sums.any()) {
      sum_chunk(block, out, scratch, scores, chunk.begin, terms.any, slab, sums,
                sums.received ? lane_sums : nullptr);
    }
    if (out.row_sums || out.key_sums) {
      sum_function_of_chunk(block, out, scratch, scores, chunk.begin, slab,
                            out.key_sums ? lane_sums : nullptr);
    }
    if (wants_cells(out)) gather_chunk(block, scratch, scores, chunk.begin, slab);
    if (scratch.top.capacity) offer_chunk(block, scratch, scores, chunk, slab);
  }
}

template <class Products>
void readout_block_with(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h,
                        int64_t first, const Worker& worker, const double* lse, const sightline_readouts& out,
                        float* lane_sums) {
  [[maybe_unused]] const typename Products::Session session;
  Scratch carver(worker.scratch);
  ReadoutScratch scratch = take_readout<Products>(p, out, carver);
  const Block block = make_block(p, b, h, first, worker.zones);
  const Terms terms = make_terms(block);
  read_ranges(block, scratch.scores.ranges);
  find_operands<Products>(block, packed, scratch.scores.operands);
  Ahead ahead;
  scratch.scores.ahead = &ahead;
  pack_query<Products>(block, terms, scratch.scores.query_t);
  start_readout(block, lse, scratch);
  if (wants_cells(out)) scratch.cells.of_key = out.cells + b * out.cell_stride;
  for_chunks(scratch.scores.ranges, [&](Span chunk, bool last) {
    readout_chunk<Products>(block, terms, scratch, out, chunk, last, lane_sums);
  });
  write_rows(block, scratch, out);
}

size_t readout_scratch(const sightline_problem& p, const sightline_readouts& out) {
  return with_products(p.dtype, [&](auto products) {
    Scratch counter(nullptr);
    take_readout<decltype(products)>(p, out, counter);
    return counter.used();
  });
}

void readout_block(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h, int64_t first,
                   const Worker& worker, const double* lse, const sightline_readouts& out, float* lane_sums) {
  with_products(p.dtype, [&](auto products) {
    readout_block_with<decltype(products)>(p, packed, b, h, first, worker, lse, out, lane_sums);
  });
}

}  // namespace
}  // namespace sightline
