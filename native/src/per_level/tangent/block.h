// The forward pass of one block of queries and its tangent, for tangents of query, key and value:
//
//   per chunk:  scores to weights, as in the forward pass                    (forward/)
//               d masked = slope of the cap * scale * (d query . key + query . d key)
//               moment and tangent                                           (sums.h)
//   at the end: context, lse, d context, d lse
//
// The weights are made once: both together take six products where the forward pass takes two.
#pragma once

#include "per_level/tangent/sums.h"

namespace sightline {
namespace {

inline void tangent_chunk(const Block& block, const Terms& terms, const Moves& moves,
                          const TangentScratch& scratch, const float* packed, Span chunk, bool last) {
  const ForwardScratch& forward = scratch.forward;
  Ahead& ahead = *forward.scores.ahead;
  const Dropout none = make_dropout(block, nullptr);
  const WordRows key = read_keys<TangentProducts>(block, forward.scores.operands.key, chunk);
  const WordRows value = read_values<TangentProducts>(block, forward.scores.operands.value, chunk);
  const WordRows moving_key =
      moves.width ? read_moving_keys(block, moves, chunk, packed, scratch.key_room) : key;
  const WordRows moving_value =
      moves.value.data ? read_moving_values(block, moves, chunk, scratch.value_room) : value;
  for (int slab = 0; slab < slabs(block); slab++) {
    ChunkScores scores;
    score_chunk<TangentProducts>(block, terms, forward.scores, key, chunk, last, slab, scores);
    if (scores.count == 0) continue;
    Vec decay[kSlabVectors], of_context[kSlabVectors];
    weigh_chunk<TangentProducts>(block, none, forward, scores, chunk.begin, slab, decay);
    const int64_t at = slab * block.value_width * kSlabRows;
    memcpy(of_context, decay, sizeof decay);
    add_rows(block, scores, value, forward.scores.scores, forward.context_t + at, of_context, ahead);
    if (moves.width) {
      add_moment(block, moves, scratch, scores, moving_key, slab, decay);
      add_rows(block, scores, value, scratch.moved, scratch.tangent_t + at, decay, ahead);
    }
    if (moves.value.data) {
      add_rows(block, scores, moving_value, forward.scores.scores, scratch.tangent_t + at, decay, ahead);
    }
  }
}

size_t tangent_scratch(const sightline_problem& p, const sightline_tangents& t) {
  Scratch counter(nullptr);
  take_tangent(p, t, counter);
  return counter.used();
}

void tangent_block(const sightline_problem& p, const sightline_tangents& t, const float* packed, int64_t b,
                   int64_t h, int64_t first, const Worker& worker) {
  Scratch carver(worker.scratch);
  TangentScratch scratch = take_tangent(p, t, carver);
  const Block block = make_block(p, b, h, first, worker.zones);
  const Terms terms = make_terms(block);
  const Moves moves = make_moves(block, t);
  ScoreScratch& scores = scratch.forward.scores;
  read_ranges(block, scores.ranges);
  find_operands<TangentProducts>(block, {}, scores.operands);
  Ahead ahead;
  scores.ahead = &ahead;
  pack_query<TangentProducts>(block, terms, scores.query_t);
  pack_moving_query(block, moves, scratch.query_t);
  start_rows(block, scratch.forward);
  start_tangent(block, scratch);
  for_chunks(scores.ranges, [&](Span chunk, bool last) {
    tangent_chunk(block, terms, moves, scratch, packed, chunk, last);
  });
  with_element(p.dtype, [&](auto element) {
    typedef decltype(element) Element;
    const auto rows = [&](void* to, const int64_t (&stride)[3]) {
      const int64_t row = b * stride[0] + h * stride[1] + first * stride[2];
      return static_cast<Element*>(to) + row;
    };
    write_tangent(block, scratch, rows(t.tangent_context, t.tangent_context_stride),
                  t.tangent_context_stride[2], t.tangent_lse);
    write_context(block, scratch.forward, rows(t.context, t.context_stride), t.context_stride[2]);
  });
  write_lse(block, scratch.forward, t.lse);
}

}  // namespace
}  // namespace sightline
