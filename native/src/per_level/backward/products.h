// The products of the backward pass: scores and grad_weights, and the gradients of values, keys and queries.
#pragma once

#include "per_level/backward/scratch.h"
#include "per_level/products/key_tiles.h"

namespace sightline {
namespace {

template <class Products, int vectors>
void multiply_query(const BackwardBlock& x, const Patch& patch, const Place& place, int slab) {
  const Zone zone(x.block.zones, SIGHTLINE_STAGE_SCORES);
  const WordRows& key = x.operands.key;
  const int64_t columns = row_words<Products>(x.block.width);
  Vec unused[kSlabVectors] = {};
  scores_product<vectors, Products>(key.row(place.key), key.stride, patch.keys,
                                    x.scratch.query_t + slab * columns * kSlabRows + patch.vector * kLanes,
                                    columns, x.scratch.weights, unused, x.ahead, x.terms.query_factor);
}

template <class Products, int vectors>
void multiply_grad_context(const BackwardBlock& x, const Patch& patch, const Place& place, int slab) {
  const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_CONTEXT));
  const WordRows& value = x.operands.value;
  const int64_t columns = row_words<Products>(x.block.value_width);
  plain_scores_product<vectors, Products>(
      value.row(place.key), value.stride, patch.keys,
      x.scratch.grad_context_t + slab * columns * kSlabRows + patch.vector * kLanes, columns,
      x.scratch.grad_scores, x.ahead);
}

template <class Products>
SL_INLINE void sum_over_queries(const SumOverQueries& sum, int keys, const float* seen) {
  if (seen) return seen_keys_product<Products>(sum, keys, seen);
  keys_product<Products>(sum, keys);
}

// `careful`: what a lane does not see is left out.
template <class Products>
void add_key_gradients(const BackwardBlock& x, const Patch& patch, const Place& place, bool careful) {
  const BackwardScratch& s = x.scratch;
  const float* seen = careful ? s.seen : nullptr;
  const int64_t width = padded_width(x.block.width), value_width = padded_width(x.block.value_width);
  const int queries = (int)words<Products>(place.rows), row = place.row / Products::kElements;
  if (x.key_sums.value) {
    const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_CONTEXT));
    sum_over_queries<Products>({s.weights, queries, s.grad_context_rows + row * value_width,
                                x.key_sums.value + place.key * value_width, value_width},
                               patch.keys, seen);
  }
  if (x.key_sums.key) {
    const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_SCORES));
    sum_over_queries<Products>(
        {s.grad_scores, queries, s.query_rows + row * width, x.key_sums.key + place.key * width, width},
        patch.keys, seen);
  }
}

template <class Products, int vectors>
void add_query_gradient(const BackwardBlock& x, const Patch& patch, const Place& place, int slab,
                        bool careful) {
  const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_SCORES));
  const WordRows& key = x.operands.key_columns;
  const int64_t width = x.block.width;
  Vec stay[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) stay[v] = splat(1.0f);
  const float* rows = values_from<Products>(key, place.key).data;
  const int count = (int)words<Products>(patch.keys);
  float* to = x.scratch.grad_query_t + slab * width * kSlabRows + patch.vector * kLanes;
  if (careful) {
    return seen_context_product<vectors, Products>(rows, key.stride, width, x.scratch.key_words, count, to,
                                                   stay, x.ahead, x.scratch.seen_keys);
  }
  context_product<vectors, Products>(rows, key.stride, width, x.scratch.key_words, count, to, stay, x.ahead);
}

}  // namespace
}  // namespace sightline
