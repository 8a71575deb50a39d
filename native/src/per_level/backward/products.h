// The products that give gradients of values, keys and queries.
#pragma once

#include "per_level/backward/scratch.h"
#include "per_level/products/key_tiles.h"

namespace sightline {
namespace {

template <class Products>
void add_key_gradients(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  const int64_t width = padded_width(x.block.width), value_width = padded_width(x.block.value_width);
  const int queries = (int)words<Products>(place.rows), row = place.row / Products::kElements;
  if (x.key_sums.value) {
    keys_product<Products>({s.weights, queries, s.grad_context_rows + row * value_width,
                            x.key_sums.value + place.key * value_width, value_width},
                           patch.keys);
  }
  if (x.key_sums.key) {
    keys_product<Products>(
        {s.grad_scores, queries, s.query_rows + row * width, x.key_sums.key + place.key * width, width},
        patch.keys);
  }
}

template <class Products, int vectors>
void add_query_gradient(const BackwardBlock& x, const Patch& patch, const Place& place, int slab) {
  const WordRows& key = x.operands.key_columns;
  const int64_t width = x.block.width;
  Vec stay[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) stay[v] = splat(1.0f);
  context_product<vectors, Products>(
      key.row(place.key / Products::kElements), key.stride, width, x.scratch.key_words,
      (int)words<Products>(patch.keys),
      x.scratch.grad_query_t + slab * width * kSlabRows + patch.vector * kLanes, stay);
}

}  // namespace
}  // namespace sightline
