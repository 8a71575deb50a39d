// The products that sum over queries, with vector lanes along the columns of a row:
//
//   sums[key][column] += sum_query factors^T[key][query] * rows[query][column]
//
// which is grad_value from weights and grad_context, and grad_key from grad_scores and query. Like the other
// two products (tiles.h) they broadcast words of one operand and read the other as it lies; a patch is summed
// from zero and then added.
#pragma once

#include "per_level/products/tiles.h"

namespace sightline {
namespace {

// Queries, and the strides of factors and rows, count words.
struct SumOverQueries {
  const float* factors;  // [key][kSlabRows]
  int queries;
  const float* rows;  // [query][column], padded to whole vectors, as sums are
  float* sums;        // [key][column]
  int64_t stride;     // of rows and sums
};

template <class Products, int keys, int vectors, class Seen>
SL_INLINE void keys_tile(const SumOverQueries& x, int key, int64_t column, const Seen& seen) {
  const float* __restrict factors = x.factors + key * kSlabRows;
  const float* __restrict rows = x.rows + column;
  const int64_t stride = x.stride;
  const int queries = x.queries;
  Vec sum[keys][vectors] = {};
#pragma GCC unroll 2
  for (int q = 0; q < queries; q++) {
    Vec row[vectors];
    SL_UNROLL for (int v = 0; v < vectors; v++) row[v] = load(rows + q * stride + v * kLanes);
    SL_UNROLL for (int k = 0; k < keys; k++) {
      const Vec factor = splat_word(factors + k * kSlabRows + q);
      SL_UNROLL for (int v = 0; v < vectors; v++) {
        sum[k][v] = Products::multiply_add(factor, seen(row[v], key + k, q), sum[k][v]);
      }
    }
  }
  SL_UNROLL for (int k = 0; k < keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float* to = x.sums + (key + k) * stride + column + v * kLanes;
      store(to, load(to) + sum[k][v]);
    }
  }
}

template <class Products, int tile, int vectors, class Seen = AllSeen>
SL_INLINE int keys_tiles(const SumOverQueries& x, int key, int keys, int64_t column,
                         const Seen& seen = Seen()) {
  for (; key + tile <= keys; key += tile) keys_tile<Products, tile, vectors>(x, key, column, seen);
  return key;
}

template <class Products, int vectors>
void keys_columns(const SumOverQueries& x, int keys, int64_t column) {
  int key = keys_tiles<Products, tile_rows<vectors>(), vectors>(x, 0, keys, column);
  key = keys_tiles<Products, 4, vectors>(x, key, keys, column);
  key = keys_tiles<Products, 2, vectors>(x, key, keys, column);
  keys_tiles<Products, 1, vectors>(x, key, keys, column);
}

template <class Products>
void keys_product(const SumOverQueries& x, int keys) {
#if defined(SL_AMX_PRODUCTS)
  if constexpr (Products::kByColumn) {
    return multiply_matrix<true>({x.factors, kSlabRows}, keys, {x.rows, x.stride}, x.queries,
                                 (int)(x.stride / kLanes), {x.sums, x.stride}, [](int64_t, int64_t) {});
  }
#endif
  for (int64_t column = 0; column < x.stride; column += kSlabVectors * kLanes) {
    const int64_t vectors = smaller<int64_t>(kSlabVectors, (x.stride - column) / kLanes);
    with_vectors((int)vectors, [&](auto n) { keys_columns<Products, n.value>(x, keys, column); });
  }
}

#if defined(SL_AMX_PRODUCTS)
SL_OUTLINE void seen_amx_keys_product(const SumOverQueries& x, int keys, const float* bits) {
  const SeenByQuery seen{bits};
  for (int k = 0; k < keys; k++) {
    for (int64_t column = 0; column < x.stride; column += kLanes) {
      PairSum sum;
      sum.sum = load(x.sums + k * x.stride + column);
      for (int q = 0; q < x.queries; q++) {
        sum.add(splat_word(x.factors + k * kSlabRows + q), seen(load(x.rows + q * x.stride + column), k, q));
        if (q % kLanes == kLanes - 1 || q == x.queries - 1) sum.close();
      }
      store(x.sums + k * x.stride + column, sum.sum);
    }
  }
}
#endif

// The same, carefully (products/seen.h); `bits` are those of the factors.
template <class Products>
SL_OUTLINE void seen_keys_product(const SumOverQueries& x, int keys, const float* bits) {
#if defined(SL_AMX_PRODUCTS)
  if constexpr (Products::kByColumn) return seen_amx_keys_product(x, keys, bits);
#endif
  for (int64_t column = 0; column < x.stride; column += kLanes) {
    keys_tiles<Products, 1, 1>(x, 0, keys, column, SeenByQuery{bits});
  }
}

}  // namespace
}  // namespace sightline
