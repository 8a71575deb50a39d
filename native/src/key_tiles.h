// The products that sum over queries, with vector lanes along the columns of a row:
//
//   sums[key][column] += sum_query factors^T[key][query] * rows[query][column]
//
// which is grad_value from weights and grad_context, and grad_key from grad_scores and query. Like the other
// two products (tiles.h) they broadcast one operand as scalars and read the other as it lies; a patch is
// summed from zero and then added.
#pragma once

#include "tiles.h"

namespace sightline {
namespace {

struct SumOverQueries {
  const float* factors;  // [key][slab row]
  int queries;
  const float* rows;  // [query][column], padded to whole vectors, as sums are
  float* sums;        // [key][column]
  int64_t stride;     // of rows and sums
};

template <int keys, int vectors>
SL_INLINE void keys_tile(const SumOverQueries& x, int key, int64_t column) {
  const float* __restrict factors = x.factors + key * kSlabRows;
  const float* __restrict rows = x.rows + column;
  Vec sum[keys][vectors] = {};
#pragma GCC unroll 2
  for (int q = 0; q < x.queries; q++) {
    Vec row[vectors];
    SL_UNROLL for (int v = 0; v < vectors; v++) row[v] = load(rows + q * x.stride + v * kLanes);
    SL_UNROLL for (int k = 0; k < keys; k++) {
      const Vec factor = splat(factors[k * kSlabRows + q]);
      SL_UNROLL for (int v = 0; v < vectors; v++) sum[k][v] = fma(factor, row[v], sum[k][v]);
    }
  }
  SL_UNROLL for (int k = 0; k < keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float* to = x.sums + (key + k) * x.stride + column + v * kLanes;
      store(to, load(to) + sum[k][v]);
    }
  }
}

template <int tile, int vectors>
SL_INLINE int keys_tiles(const SumOverQueries& x, int key, int keys, int64_t column) {
  for (; key + tile <= keys; key += tile) keys_tile<tile, vectors>(x, key, column);
  return key;
}

template <int vectors>
void keys_columns(const SumOverQueries& x, int keys, int64_t column) {
  int key = keys_tiles<tile_rows<vectors>(), vectors>(x, 0, keys, column);
  key = keys_tiles<4, vectors>(x, key, keys, column);
  key = keys_tiles<2, vectors>(x, key, keys, column);
  keys_tiles<1, vectors>(x, key, keys, column);
}

inline void keys_product(const SumOverQueries& x, int keys) {
  for (int64_t column = 0; column < x.stride; column += kSlabVectors * kLanes) {
    const int64_t vectors = smaller<int64_t>(kSlabVectors, (x.stride - column) / kLanes);
    with_vectors((int)vectors, [&](auto n) { keys_columns<n.value>(x, keys, column); });
  }
}

}  // namespace
}  // namespace sightline
