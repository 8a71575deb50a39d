// The forward pass of one block of queries:
//
//   per chunk:  scores -> scaled -> capped -> biased -> masked        (stages/)
//               weights and their sums                               (weights.h)
//               context = context * decay + weights . value          (context.h)
//   at the end: context / l,  lse = m + log l
//
// A context that holds NaN is computed once more, carefully (products/seen.h): all of it that was hidden
// goes.
#pragma once

#include "per_level/forward/ahead.h"
#include "shared/work.h"

namespace sightline {
namespace {

template <class Products, bool careful>
void forward_chunk(const Block& block, const Terms& terms, const Dropout& dropout,
                   const ForwardScratch& scratch, Span chunk, bool last, bool want_context) {
  const Operands& operands = scratch.scores.operands;
  const WordRows key = read_keys<Products>(block, operands.key, chunk);
  const WordRows value =
      want_context ? read_values<Products>(block, operands.value, chunk) : WordRows{nullptr, 0};
  if (!last) add_chunk_ahead<Products>(*scratch.scores.ahead, block, operands, chunk, want_context);
  for (int slab = 0; slab < slabs(block); slab++) {
    ChunkScores scores;
    score_chunk<Products>(block, terms, scratch.scores, key, chunk, last, slab, scores);
    if (scores.count == 0) continue;
    if (careful) note_chunk<Products>(block, scratch, scores);
    Vec decay[kSlabVectors];
    weigh_chunk<Products>(block, dropout, scratch, scores, chunk.begin, slab, decay);
    if (want_context) add_context<Products, careful>(block, terms, scratch, scores, value, slab, decay);
  }
}

// All chunks, from the start.
template <class Products, bool careful>
SL_INLINE void walk_chunks(const Block& block, const Terms& terms, const Dropout& dropout,
                           const ForwardScratch& scratch, bool want_context) {
  start_rows(block, scratch);
  for_chunks(scratch.scores.ranges, [&](Span chunk, bool last) {
    forward_chunk<Products, careful>(block, terms, dropout, scratch, chunk, last, want_context);
  });
}
template <class Products>
SL_OUTLINE void walk_carefully(const Block& block, const Terms& terms, const Dropout& dropout,
                               const ForwardScratch& scratch) {
  walk_chunks<Products, true>(block, terms, dropout, scratch, true);
}

template <class Products>
void forward_block_with(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h,
                        int64_t first, const Worker& worker, const ForwardOut& out) {
  [[maybe_unused]] const typename Products::Session session;
  Scratch carver(worker.scratch);
  ForwardScratch scratch = take_forward<Products>(p, carver);
  const Block block = make_block(p, b, h, first, worker.zones);
  const Terms terms = make_terms(block);
  read_ranges(block, scratch.scores.ranges);
  find_operands<Products>(block, packed, scratch.scores.operands);
  Ahead ahead;
  add_block_ahead(ahead, block, scratch.scores.ranges, out);
  scratch.scores.ahead = &ahead;
  pack_query<Products>(block, terms, scratch.scores.query_t);
  const Dropout dropout = make_dropout(block, scratch.streams);
  walk_chunks<Products, false>(block, terms, dropout, scratch, out.context != nullptr);
  if (scratch.seen && out.context && has_nan(block, scratch)) {
    walk_carefully<Products>(block, terms, dropout, scratch);
  }
  if (out.context) {
    with_element(p.dtype, [&](auto element) {
      const auto to = const_cast<decltype(element)*>(context_rows(block, out).at<decltype(element)>(0));
      write_context(block, scratch, to, out.context_stride[2]);
    });
  }
  if (out.lse) write_lse(block, scratch, out.lse);
}

size_t forward_scratch(const sightline_problem& p) {
  return with_products(p.dtype, [&](auto products) {
    Scratch counter(nullptr);
    take_forward<decltype(products)>(p, counter);
    return counter.used();
  });
}

void forward_block(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h, int64_t first,
                   const Worker& worker, const ForwardOut& out) {
  with_products(p.dtype, [&](auto products) {
    forward_block_with<decltype(products)>(p, packed, b, h, first, worker, out);
  });
}

}  // namespace
}  // namespace sightline
