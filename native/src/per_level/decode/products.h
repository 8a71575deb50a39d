// The two matrix products of decode, with vector lanes along the width: a few query rows meet many keys.
//
//   scores[row][key]   = sum_d query[row][d] * key[key][d]
//   context[row][e]   += sum_key weights[row][key] * value[key][e]
//
// Keys and values are read where they lie, in their own dtype, once for all rows of a tile. The lanes of a
// tile's scores are added up together: a transposing tree takes kLanes vectors to one vector of their sums.
#pragma once

#include "per_level/decode/arithmetic.h"

namespace sightline {
namespace {

// One round of the tree: half as many vectors, with half as many lanes to add in each.
template <int n>
SL_INLINE void add_up(Vec (&rows)[kLanes]) {
  SL_UNROLL for (int i = 0; i < n / 2; i++) {
    rows[i] = interleave_low(rows[i], rows[i + n / 2]) + interleave_high(rows[i], rows[i + n / 2]);
  }
  if constexpr (n > 2) add_up<n / 2>(rows);
}

// Vectors to the vector of their sums, in order.
SL_INLINE Vec sums_of(Vec (&rows)[kLanes]) {
  add_up<kLanes>(rows);
  return rows[0];
}

// --- Scores ---

// Keys of one tile: with fewer rows more keys, so that their sums fill vectors.
template <int rows>
constexpr int tile_keys() {
  return kLanes > rows * 4 ? kLanes / rows : 4;
}

template <class P>
struct KeyRows {
  const typename P::Stored* data;
  int64_t stride;
  SL_INLINE const typename P::Stored* row(int64_t j) const { return data + j * stride; }
};

// rows x 4 products of rows along the width; `last` is the last key that is there.
template <class P, int rows>
SL_INLINE void dot_products(const char* query, size_t query_stride, const KeyRows<P>& keys, int first,
                            int last, int64_t width, Vec (&sum)[rows][4]) {
  const typename P::Stored* key[4];
  SL_UNROLL for (int k = 0; k < 4; k++) key[k] = keys.row(smaller(first + k, last));
  int64_t d = 0;
  for (; d + kWide <= width; d += kWide) {
    typename P::Factor q[rows];
    SL_UNROLL for (int r = 0; r < rows; r++) q[r] = P::query(query + r * query_stride, d);
    SL_UNROLL for (int k = 0; k < 4; k++) {
      const typename P::Factor x = P::key(key[k] + d);
      SL_UNROLL for (int r = 0; r < rows; r++) sum[r][k] = P::multiply(q[r], x, sum[r][k]);
    }
  }
  if (d == width) return;
  SL_UNROLL for (int k = 0; k < 4; k++) {
    const typename P::Factor x = P::key_part(key[k] + d, (int)(width - d));
    SL_UNROLL for (int r = 0; r < rows; r++) {
      sum[r][k] = P::multiply(P::query(query + r * query_stride, d), x, sum[r][k]);
    }
  }
}

template <class P, int rows>
SL_INLINE void decode_scores_tile(const char* query, size_t query_stride, const KeyRows<P>& keys, int first,
                                  int last, int64_t width, Vec factor, float* scores) {
  constexpr int count = tile_keys<rows>();
  Vec sums[rows * count];
  SL_UNROLL for (int part = 0; part < count; part += 4) {
    Vec sum[rows][4] = {};
    dot_products<P, rows>(query, query_stride, keys, first + part, last, width, sum);
    SL_UNROLL for (int r = 0; r < rows; r++) {
      SL_UNROLL for (int k = 0; k < 4; k++) sums[r * count + part + k] = sum[r][k];
    }
  }
  float found[rows * count];
  SL_UNROLL for (int i = 0; i < rows * count; i += kLanes) {
    Vec some[kLanes];
    SL_UNROLL for (int l = 0; l < kLanes; l++) some[l] = sums[i + l];
    store(found + i, sums_of(some) * factor);
  }
  SL_UNROLL for (int r = 0; r < rows; r++) {
    memcpy(scores + r * kDecodeKeys + first, found + r * count, sizeof(float) * count);
  }
}

// scores [rows][kDecodeKeys]; entries past `count`, up to a whole tile, are of no meaning. Asks for the rows
// `ask` ahead; 0: none.
template <class P, int rows>
void decode_scores(const char* query, size_t query_stride, const KeyRows<P>& keys, int count, int64_t width,
                   float factor, int64_t ask, float* scores) {
  constexpr int step = tile_keys<rows>();
  for (int k = 0; k < count; k += step) {
    for (int i = 0; ask && i < step; i++) ask_for(keys.row(k + i + ask), width);
    decode_scores_tile<P, rows>(query, query_stride, keys, k, count - 1, width, splat(factor), scores);
  }
}

// --- Context ---

template <class P, int rows, class Seen>
void decode_context(const KeyRows<P>& values, int64_t width, const typename P::Weight* weights, int keys,
                    const float* decay, int64_t ask, float* context, int64_t context_stride,
                    const Seen& seen) {
  int64_t e = 0;
  for (; e + 2 * kWide <= width; e += 2 * kWide) {
    P::template context_tile<rows, 2, false>(values.data + e, values.stride, 0, weights, keys, decay, ask,
                                             context + e, context_stride, seen);
  }
  for (; e + kWide <= width; e += kWide) {
    P::template context_tile<rows, 1, false>(values.data + e, values.stride, 0, weights, keys, decay, ask,
                                             context + e, context_stride, seen);
  }
  if (e < width) {
    P::template context_tile<rows, 1, true>(values.data + e, values.stride, (int)(width - e), weights, keys,
                                            decay, ask, context + e, context_stride, seen);
  }
}

}  // namespace
}  // namespace sightline
