// The two matrix products, with vector lanes along queries.
//
//   scores:  S^T[key][query]  = sum_d key[key][d] * Q^T[d][query]
//   context: O^T[e][query]   += sum_key value[key][e] * W^T[key][query]
//
// Key and value are read row by row, one broadcast word at a time (see words.h for words; everything here
// that is multiplied counts and strides in them); maxima, sums and rescaling are lane by lane, so nothing is
// ever reduced across lanes. Both products are built of tiles of `rows` (keys, or value columns) by `vectors`
// (of queries) accumulators that stay in registers: a loop over an accumulator array that is not unrolled
// would put it in memory, at half the speed.
#pragma once

#include "per_level/memory/ahead.h"
#include "per_level/products/amx.h"
#include "per_level/products/seen.h"

namespace sightline {
namespace {

// Rows of a tile that covers fewer vectors than a slab has: enough accumulators to hide the latency of FMA.
template <int vectors>
constexpr int tile_rows() {
  return vectors == kSlabVectors ? kTileRows : 8;
}

// --- Scores ---

template <class Products, int rows, int vectors>
SL_INLINE void scores_tile(const float* __restrict key, int64_t key_stride, const float* __restrict query_t,
                           int64_t width, float factor, float* __restrict scores, Vec* highest,
                           Ahead& ahead) {
  Vec sum[rows][vectors] = {};
  for (int64_t first = 0; first < width; first += kStepWords) {
    ahead.step();
    const int64_t end = smaller<int64_t>(width, first + kStepWords);
#pragma GCC unroll 2
    for (int64_t d = first; d < end; d++) {
      Vec q[vectors];
      SL_UNROLL for (int v = 0; v < vectors; v++) q[v] = load(query_t + d * kSlabRows + v * kLanes);
      SL_UNROLL for (int r = 0; r < rows; r++) {
        const Vec k = splat_word(key + r * key_stride + d);
        SL_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = Products::multiply_add(k, q[v], sum[r][v]);
      }
    }
  }
  SL_UNROLL for (int r = 0; r < rows; r++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      if (!Products::kQueryTakesFactor) sum[r][v] *= splat(factor);
      store(scores + r * kSlabRows + v * kLanes, sum[r][v]);
      highest[v] = max_of(highest[v], sum[r][v]);
    }
  }
}

template <class Products, int rows, int vectors>
SL_INLINE int scores_tiles(const float* key, int64_t key_stride, int keys, const float* query_t,
                           int64_t width, float factor, float* scores, Vec* highest, Ahead& ahead) {
  int k = 0;
  for (; k + rows <= keys; k += rows) {
    scores_tile<Products, rows, vectors>(key + k * key_stride, key_stride, query_t, width, factor,
                                         scores + k * kSlabRows, highest, ahead);
  }
  return k;
}

// `keys` rows of S^T for `vectors` vectors of queries; `highest` (in and out) is the maximum of each lane.
// `factor` is what scores are multiplied with where the query was packed without it.
template <int vectors, class Products = Float32Products>
void scores_product(const float* key, int64_t key_stride, int keys, const float* query_t, int64_t width,
                    float* scores, Vec* highest, Ahead& ahead, float factor = 1.0f) {
#if defined(SL_AMX_PRODUCTS)
  if constexpr (Products::kByColumn) {
    return amx_scores_product<vectors>({key, key_stride}, keys, query_t, width, factor, scores, highest,
                                       ahead);
  }
#endif
  Vec high[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) high[v] = highest[v];
  int k = scores_tiles<Products, tile_rows<vectors>(), vectors>(key, key_stride, keys, query_t, width, factor,
                                                                scores, high, ahead);
  k += scores_tiles<Products, 4, vectors>(key + k * key_stride, key_stride, keys - k, query_t, width, factor,
                                          scores + k * kSlabRows, high, ahead);
  k += scores_tiles<Products, 2, vectors>(key + k * key_stride, key_stride, keys - k, query_t, width, factor,
                                          scores + k * kSlabRows, high, ahead);
  scores_tiles<Products, 1, vectors>(key + k * key_stride, key_stride, keys - k, query_t, width, factor,
                                     scores + k * kSlabRows, high, ahead);
  SL_UNROLL for (int v = 0; v < vectors; v++) highest[v] = high[v];
}

// The same where sums are wanted as they are: the gradients of weights.
template <int vectors, class Products>
SL_INLINE void plain_scores_product(const float* key, int64_t key_stride, int keys, const float* query_t,
                                    int64_t width, float* scores, Ahead& ahead) {
#if defined(SL_AMX_PRODUCTS)
  if constexpr (Products::kByColumn) {
    return multiply_matrix<false>({key, key_stride}, keys, {query_t, kSlabRows}, width, vectors,
                                  {scores, kSlabRows}, [&](int64_t, int64_t) { ahead.steps(kPanelSteps); });
  }
#endif
  Vec unused[vectors] = {};
  scores_product<vectors, Products>(key, key_stride, keys, query_t, width, scores, unused, ahead);
}

// --- Context ---

// The products of one key block are summed from zero and merged into O^T at the end, context * decay + sum:
// long sequences then round like a tree of blocks, not like one long chain.
template <class Products, int rows, int vectors, class Seen>
SL_INLINE void context_tile(const float* __restrict value, int64_t value_stride,
                            const float* __restrict weights, int keys, float* __restrict context_t,
                            const Vec* decay, Ahead& ahead, const Seen& seen) {
  Vec sum[rows][vectors] = {};
  for (int first = 0; first < keys; first += kStepWords) {
    ahead.step();
    const int end = smaller(keys, first + kStepWords);
#pragma GCC unroll 2
    for (int k = first; k < end; k++) {
      Vec w[vectors];
      SL_UNROLL for (int v = 0; v < vectors; v++) w[v] = load(weights + k * kSlabRows + v * kLanes);
      SL_UNROLL for (int r = 0; r < rows; r++) {
        const Vec x = splat_word(value + k * value_stride + r);
        SL_UNROLL for (int v = 0; v < vectors; v++) {
          sum[r][v] = Products::multiply_add(seen(x, k, v), w[v], sum[r][v]);
        }
      }
    }
  }
  SL_UNROLL for (int r = 0; r < rows; r++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float* out = context_t + r * kSlabRows + v * kLanes;
      store(out, fma(load(out), decay[v], sum[r][v]));
    }
  }
}

template <class Products, int rows, int vectors, class Seen = AllSeen>
SL_INLINE int64_t context_tiles(const float* value, int64_t value_stride, int64_t columns,
                                const float* weights, int keys, float* context_t, const Vec* decay,
                                Ahead& ahead, const Seen& seen = Seen()) {
  int64_t e = 0;
  for (; e + rows <= columns; e += rows) {
    context_tile<Products, rows, vectors>(value + e, value_stride, weights, keys, context_t + e * kSlabRows,
                                          decay, ahead, seen);
  }
  return e;
}

// `keys` counts words: rows of `value` (or, where values lie by column, words of its rows) and of `weights`.
template <int vectors, class Products = Float32Products>
void context_product(const float* value, int64_t value_stride, int64_t columns, const float* weights,
                     int keys, float* context_t, const Vec* decay, Ahead& ahead) {
#if defined(SL_AMX_PRODUCTS)
  if constexpr (Products::kByColumn) {
    return amx_context_product<vectors>({value, value_stride}, columns, weights, keys, context_t, decay,
                                        ahead);
  }
#endif
  int64_t e = context_tiles<Products, tile_rows<vectors>(), vectors>(value, value_stride, columns, weights,
                                                                     keys, context_t, decay, ahead);
  e += context_tiles<Products, 4, vectors>(value + e, value_stride, columns - e, weights, keys,
                                           context_t + e * kSlabRows, decay, ahead);
  e += context_tiles<Products, 2, vectors>(value + e, value_stride, columns - e, weights, keys,
                                           context_t + e * kSlabRows, decay, ahead);
  context_tiles<Products, 1, vectors>(value + e, value_stride, columns - e, weights, keys,
                                      context_t + e * kSlabRows, decay, ahead);
}

// The same, carefully (products/seen.h); `bits` are those of `weights`.
template <int vectors, class Products>
SL_OUTLINE void seen_context_product(const float* value, int64_t value_stride, int64_t columns,
                                     const float* weights, int keys, float* context_t, const Vec* decay,
                                     Ahead& ahead, const float* bits) {
#if defined(SL_AMX_PRODUCTS)
  if constexpr (Products::kByColumn) {
    return seen_amx_context_product<vectors>({value, value_stride}, columns, weights, keys, context_t, decay,
                                             bits);
  }
#endif
  context_tiles<Products, 1, vectors>(value, value_stride, columns, weights, keys, context_t, decay, ahead,
                                      SeenByLane{bits});
}

// --- The number of vectors, known at run time, as a template argument ---

template <int n>
struct Vectors {
  static constexpr int value = n;
};

template <class Body>
SL_INLINE void with_vectors(int vectors, const Body& body) {
  if constexpr (kSlabVectors == 4) {
    if (vectors == 4) return body(Vectors<4>());
    if (vectors == 3) return body(Vectors<3>());
  }
  if (vectors == 2) return body(Vectors<2>());
  body(Vectors<1>());
}

}  // namespace
}  // namespace sightline
