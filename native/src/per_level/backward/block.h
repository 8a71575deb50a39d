// The backward pass of one block of queries, by recomputation, one patch of S^T after another:
//
//   weights      = 2^(masked - lse)                      dropout multiplies the weights that met the values
//   grad_weights = value . grad_context^T                and their gradient
//   grad_masked  = weights * (grad_weights - delta),     delta = sum_e context * grad_context - grad_lse
//   grad_scores  = grad_masked * (1 - tanh^2)            where scores are capped; scale follows at the end
//   grad_value  += weights . grad_context;  grad_key += grad_scores . query;  grad_query += key^T .
//   grad_scores
//
// lse is known, so there is no running maximum and nothing is rescaled. What is summed over queries stays in
// float32 sums that the caller keeps (KeySums, TermSums). Where something is not finite, whatever may be
// hidden is taken out of the products (products/seen.h).
#pragma once

#include "per_level/backward/bias_gradients.h"
#include "per_level/backward/products.h"
#include "per_level/backward/rows.h"
#include "per_level/backward/weights.h"

namespace sightline {
namespace {

template <class Products, int vectors>
void masked_patch(const BackwardBlock& x, const Patch& patch, const Place& place, int slab,
                  const uint8_t* visible) {
  const BackwardScratch& s = x.scratch;
  multiply_query<Products, vectors>(x, patch, place, slab);
  if (!x.terms.any && !patch.edge) return;
  apply_stages(
      PatchStages{x.block, x.terms, s.ranges, patch, place, s.stages, s.weights, visible, s.cap_slope},
      x.block.zones);
}

// grad_masked -> gradients of the bias terms, and grad_scores in place.
inline void pass_stages(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  const TermSums& sums = x.term_sums;
  if (sums.bias || sums.slopes || sums.table) {
    const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_BIASED));
    const MaskedGradient grad = {patch, place, s.grad_scores, x.stores};
    if (sums.bias) add_bias_gradient(x.block, sums, grad);
    if (sums.slopes || sums.table) add_position_gradients(x.block, x.terms, sums, grad, s.stages.strip);
  }
  if (x.terms.cap == 0) return;
  const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_CAPPED));
  for_vectors(patch, s.grad_scores,
              [&](int k, int v, Vec g) { return g * load(s.cap_slope + k * kSlabRows + v * kLanes); });
}

template <class Products, int vectors>
void weigh_patch(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const Zone zone(x.block.zones,
                  x.scores ? gradient_of(SIGHTLINE_STAGE_WEIGHTS) : (int32_t)SIGHTLINE_STAGE_WEIGHTS);
  const BackwardScratch& s = x.scratch;
  with_keep(x.dropout, place, [&](const auto& keep) {
    if constexpr (Products::kElements == 2) {
      if (x.bare) return weigh_to_words<Products, vectors>(s, patch, place, keep);
    }
    if (x.scores && x.entropy) return weigh_gradients<vectors, true, true>(s, patch, place, keep);
    if (x.scores) return weigh_gradients<vectors, true, false>(s, patch, place, keep);
    weigh_gradients<vectors, false, false>(s, patch, place, keep);
  });
}

template <class Products, int vectors>
void backward_patch(const BackwardBlock& x, const Patch& patch, const Place& place, int slab,
                    const uint8_t* visible) {
  const bool careful = x.careful && may_hide<Products>(x.terms, patch);
  masked_patch<Products, vectors>(x, patch, place, slab, visible);
  if (careful) note_patch<vectors>(x.scratch, patch, place);
  if (x.scores) multiply_grad_context<Products, vectors>(x, patch, place, slab);
  weigh_patch<Products, vectors>(x, patch, place);
  if (careful) hide_patch<Products, vectors>(x.scratch, patch);
  if (!x.bare) {
    if (x.scores) pass_stages(x, patch, place);
    round_patch<Products, vectors>(x, patch);
  } else if (x.term_sums.bias) {
    const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_BIASED));
    write_bias_words(x.block, x.term_sums, patch, place, x.scratch.key_words, x.stores);
  }
  add_key_gradients<Products>(x, patch, place, careful);
  if (x.query) add_query_gradient<Products, vectors>(x, patch, place, slab, careful);
}

// Fetches what the dense mask shows of a patch; returns whether it shows anything.
inline bool fetch_patch(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const Zone zone(x.block.zones, SIGHTLINE_STAGE_MASKED);
  return fetch_visible(x.terms.visible, patch, place, x.scratch.stages.visible);
}

template <class Products>
void backward_chunk(const BackwardBlock& x, Span chunk, bool last, int slab) {
  if (slab == 0) add_bias_ahead(x.ahead, x.block, chunk);
  const BackwardScratch& s = x.scratch;
  Patch patches[kMaxPatches];
  const int count =
      make_patches(s.ranges, slab * kSlabVectors, slab_vectors(x.block, slab), chunk, last, patches);
  for (int i = 0; i < count; i++) {
    const Patch& patch = patches[i];
    const Place place = place_of(x.block, patch, slab, chunk.begin);
    uint8_t* visible = x.terms.visible.data ? s.stages.visible : nullptr;
    if (visible && !fetch_patch(x, patch, place)) continue;
    with_vectors(patch.vectors,
                 [&](auto n) { backward_patch<Products, n.value>(x, patch, place, slab, visible); });
  }
}

// What the block after this one will be the first to read, and where this one will write.
template <class Products>
Ahead rows_ahead(const Block& block, const BackwardOperands& operands, const BackwardScratch& s,
                 const sightline_gradients& g, const Rows& context, const Rows& grad_context) {
  Ahead ahead;
  const auto add = [&](const Rows& rows, int64_t count, int64_t width) {
    ahead.add(rows.data, rows.bytes(rows.stride), count, rows.bytes(width));
  };
  const int64_t next = smaller<int64_t>(kBlockRows, block.problem->queries - block.first - block.count);
  if (g.query) add(block_rows_of(block, g.query, g.query_stride), block.count, block.width);
  add(block.query.from(block.count), next, block.width);
  add(grad_context.from(block.count), next, block.value_width);
  add(context.from(block.count), next, block.value_width);
  const int64_t end = last_key(s.ranges), more = smaller<int64_t>(kBlockRows, block.keys - end);
  const auto add_words = [&](const WordRows& rows, int64_t width) {
    ahead.add(rows.row(end), rows.stride * sizeof(float), more, width * sizeof(float));
  };
  add_words(operands.key, row_words<Products>(block.width));
  add_words(operands.value, row_words<Products>(block.value_width));
  return ahead;
}

template <class Products>
bool backward_block_with(const sightline_problem& p, const BackwardHead& head, const sightline_gradients& g,
                         int64_t b, int64_t h, int64_t first, const Worker& worker, const KeySums& key_sums,
                         const TermSums& term_sums) {
  [[maybe_unused]] const typename Products::Session session;
  Scratch carver(worker.scratch);
  BackwardScratch scratch = take_backward<Products>(p, carver);
  const Block block = make_block(p, b, h, first, worker.zones);
  const Terms terms = make_terms(block);
  const BackwardOperands operands = find_backward_operands<Products>(block, head.packed);
  read_ranges(block, scratch.ranges);
  const Dropout dropout = make_dropout(block, scratch.streams);
  const bool scores = g.query || key_sums.key || term_sums.bias || term_sums.slopes || term_sums.table;
  const bool clears = clears_bias(terms, scratch.ranges, term_sums);
  const BiasStores stores = bias_stores(term_sums, clears);
  const Rows grad_context = block_rows_of(block, g.grad_context, g.grad_context_stride);
  const bool careful =
      scratch.seen && !head.trusted && !(head.moderate && rows_moderate(block, g, grad_context));
  const bool from_words = Products::kElements == 2 && p.dtype == SIGHTLINE_BFLOAT16 &&
                          writes_bias(term_sums) && term_sums.bias_dtype == SIGHTLINE_BFLOAT16;
  const bool bare = scores && !careful && terms.cap == 0 && (!term_sums.bias || from_words) &&
                    !term_sums.slopes && !term_sums.table && !g.grad_entropy;
  const Rows context = block_rows_of(block, g.context, g.context_stride);
  Ahead ahead = rows_ahead<Products>(block, operands, scratch, g, context, grad_context);
  const BackwardBlock x = {
      block, terms,  operands,           scratch, dropout, key_sums, term_sums,
      ahead, stores, g.query != nullptr, scores,  careful, bare,     g.grad_entropy != nullptr};
  load_grad_context<Products>(x, grad_context);
  start_weights<Products>(x, g, context);
  if (clears) clear_bias_rows(block, term_sums);
  if (!scores && !key_sums.value) return true;
  load_query<Products>(x);
  start_grad_scores<Products>(x);
  for_chunks(scratch.ranges, [&](Span chunk, bool last) {
    for (int slab = 0; slab < slabs(block); slab++) backward_chunk<Products>(x, chunk, last, slab);
  });
  if (stores == BiasStores::kStream) end_streaming();
  if (!g.query) return true;
  write_grad_query(block, g, scratch);
  return !head.trusted || query_numbers(block, scratch);
}

size_t backward_scratch(const sightline_problem& p) {
  return with_products(p.dtype, [&](auto products) {
    Scratch counter(nullptr);
    take_backward<decltype(products)>(p, counter);
    return counter.used();
  });
}

bool backward_block(const sightline_problem& p, const BackwardHead& head, const sightline_gradients& g,
                    int64_t b, int64_t h, int64_t first, const Worker& worker, const KeySums& key_sums,
                    const TermSums& term_sums) {
  return with_products(p.dtype, [&](auto products) {
    return backward_block_with<decltype(products)>(p, head, g, b, h, first, worker, key_sums, term_sums);
  });
}

}  // namespace
}  // namespace sightline
