// The two matrix products of decode, with vector lanes along the width: a few query rows meet many keys.
//
//   scores[row][key]   = sum_d query[row][d] * key[key][d]
//   context[row][e]   += sum_key weights[row][key] * value[key][e]
//
// Keys and values are read where they lie, in their own dtype, once for all rows of a tile. The lanes of a
// tile's scores are added up together: a transposing tree takes kLanes vectors to one vector of their sums.
#pragma once

#include "wide.h"

namespace sightline {
namespace {

// Rows of a tile: rows * 4 keys accumulators, their operands and a query must fit the registers.
constexpr int kDecodeTileRows = kTileRows * kSlabVectors >= 24 ? 4 : 2;
constexpr int kDecodeKeys = 64;  // keys of a chunk

// --- Asking ahead ---

// A cache is read once, row by row, at the speed of memory: what lies this far ahead is asked for into the L2
// cache while sums are made of what is there. Left to the processor, decode took 1.6 to 1.8 times as long.
constexpr int64_t kAskAheadBytes = 16384;

// Rows to ask ahead by.
template <class Stored>
SL_INLINE int64_t ask_distance(int64_t width) {
  const int64_t row_bytes = larger<int64_t>(1, width * (int64_t)sizeof(Stored));
  return larger<int64_t>(8, kAskAheadBytes / row_bytes);
}

template <class Stored>
SL_INLINE void ask_for(const Stored* row, int64_t width) {
  const char* bytes = reinterpret_cast<const char*>(row);
  for (int64_t at = 0; at < width * (int64_t)sizeof(Stored); at += 64) __builtin_prefetch(bytes + at, 0, 2);
}

// --- Sums ---

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

// The sums of one chunk start at zero and are merged, context * decay + sum: long caches then round like a
// tree of chunks, not like one long chain.
template <int rows, int vectors>
SL_INLINE void add_to_context(const Vec (&sum)[rows][vectors], const float* decay, float* context,
                              int64_t context_stride) {
  SL_UNROLL for (int r = 0; r < rows; r++) {
    const Vec shrink = splat(decay[r]);
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float* to = context + r * context_stride + v * kLanes;
      store(to, fma(load(to), shrink, sum[r][v]));
    }
  }
}

// --- Products of float32 ---

// Rows of queries are packed as floats, in the order that loads of their dtype yield, padded with zeros.
template <class Element>
struct FloatProducts {
  typedef Element Stored;
  typedef Wide Factor;
  typedef float Weight;

  static size_t query_bytes(int64_t width) { return sizeof(float) * ((width + kWide - 1) / kWide * kWide); }
  static void pack_query(const Element* from, int64_t width, char* to) {
    float* floats = reinterpret_cast<float*>(to);
    for (int64_t d = 0; d < width; d += kWide) {
      const int64_t left = width - d;
      const Wide q = left >= kWide ? load_wide(from + d) : load_wide_part(from + d, (int)left);
      store(floats + d, q.v[0]);
      store(floats + d + kLanes, q.v[1]);
    }
  }
  SL_INLINE static Wide query(const char* packed, int64_t d) {
    return load_wide(reinterpret_cast<const float*>(packed) + d);
  }
  SL_INLINE static Wide key(const Element* p) { return load_wide(p); }
  SL_INLINE static Wide key_part(const Element* p, int count) { return load_wide_part(p, count); }
  SL_INLINE static Vec multiply(const Wide& a, const Wide& b, Vec sum) {
    return fma(a.v[1], b.v[1], fma(a.v[0], b.v[0], sum));
  }

  // Where an element of the context lies among kWide sums.
  static int place(int element) { return place_of_element<Element>(element); }

  template <int rows, int wides, bool part>
  SL_INLINE static void context_tile(const Element* value, int64_t stride, int count, const float* weights,
                                     int keys, const float* decay, int64_t ask, float* context,
                                     int64_t context_stride) {
    Vec sum[rows][2 * wides] = {};
    for (int k = 0; k < keys; k++, value += stride) {
      if (ask) ask_for(value + ask * stride, wides * kWide);
      Wide v[wides];
      SL_UNROLL for (int w = 0; w < wides; w++) {
        v[w] = part ? load_wide_part(value + w * kWide, count) : load_wide(value + w * kWide);
      }
      SL_UNROLL for (int r = 0; r < rows; r++) {
        const Vec weight = splat(weights[r * kDecodeKeys + k]);
        SL_UNROLL for (int w = 0; w < 2 * wides; w++) {
          sum[r][w] = fma(weight, v[w / 2].v[w % 2], sum[r][w]);
        }
      }
    }
    add_to_context<rows, 2 * wides>(sum, decay, context, context_stride);
  }
};

// --- Products of bfloat16 pairs ---

#if defined(__AVX512BF16__)

// Queries and keys are multiplied pair by pair along the width, as they lie. Along the keys, two values are
// interleaved in registers to meet a pair of weights, which are rounded to bfloat16.
struct PairProducts {
  typedef Bfloat16 Stored;
  typedef __m512bh Factor;
  typedef Bfloat16 Weight;

  static size_t query_bytes(int64_t width) {
    return sizeof(Bfloat16) * ((width + kWide - 1) / kWide * kWide);
  }
  static void pack_query(const Bfloat16* from, int64_t width, char* to) {
    memset(to, 0, query_bytes(width));
    memcpy(to, from, sizeof(Bfloat16) * width);
  }
  SL_INLINE static Factor query(const char* packed, int64_t d) {
    return (__m512bh)_mm512_loadu_si512(packed + sizeof(Bfloat16) * d);
  }
  SL_INLINE static Factor key(const Bfloat16* p) { return (__m512bh)_mm512_loadu_si512(p); }
  SL_INLINE static Factor key_part(const Bfloat16* p, int count) {
    return (__m512bh)_mm512_maskz_loadu_epi16((1u << count) - 1, p);
  }
  SL_INLINE static Vec multiply(Factor a, Factor b, Vec sum) { return _mm512_dpbf16_ps(sum, a, b); }

  // Interleaving works within 128 bits: elements 0-3, 8-11, ... of a wide load, then 4-7, 12-15, ...
  static int place(int element) { return element / 8 * 4 + element % 4 + element / 4 % 2 * kLanes; }

  template <int rows, int wides, bool part>
  SL_INLINE static void context_tile(const Bfloat16* value, int64_t stride, int count,
                                     const Bfloat16* weights, int keys, const float* decay, int64_t ask,
                                     float* context, int64_t context_stride) {
    Vec sum[rows][2 * wides] = {};
    for (int k = 0; k < keys; k += 2, value += 2 * stride) {
      for (int i = 0; ask && i < 2; i++) ask_for(value + (i + ask) * stride, wides * kWide);
      Factor v[2 * wides];
      SL_UNROLL for (int w = 0; w < wides; w++) {
        const Bfloat16* p = value + w * kWide;
        const __m512i a = (__m512i)(part ? key_part(p, count) : key(p));
        __m512i b = _mm512_setzero_si512();
        if (k + 1 < keys) b = (__m512i)(part ? key_part(p + stride, count) : key(p + stride));
        v[2 * w] = (__m512bh)_mm512_unpacklo_epi16(a, b);
        v[2 * w + 1] = (__m512bh)_mm512_unpackhi_epi16(a, b);
      }
      SL_UNROLL for (int r = 0; r < rows; r++) {
        int32_t pair;
        memcpy(&pair, weights + r * kDecodeKeys + k, sizeof pair);
        const Factor weight = (__m512bh)_mm512_set1_epi32(pair);
        SL_UNROLL for (int i = 0; i < 2 * wides; i++) sum[r][i] = multiply(weight, v[i], sum[r][i]);
      }
    }
    add_to_context<rows, 2 * wides>(sum, decay, context, context_stride);
  }
};

constexpr bool kPairs = true;
template <class Element>
struct ProductsOf {
  typedef FloatProducts<Element> Type;
};
template <>
struct ProductsOf<Bfloat16> {
  typedef PairProducts Type;
};

#else

constexpr bool kPairs = false;
template <class Element>
struct ProductsOf {
  typedef FloatProducts<Element> Type;
};

#endif

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

template <class P, int rows>
void decode_context(const KeyRows<P>& values, int64_t width, const typename P::Weight* weights, int keys,
                    const float* decay, int64_t ask, float* context, int64_t context_stride) {
  int64_t e = 0;
  for (; e + 2 * kWide <= width; e += 2 * kWide) {
    P::template context_tile<rows, 2, false>(values.data + e, values.stride, 0, weights, keys, decay, ask,
                                             context + e, context_stride);
  }
  for (; e + kWide <= width; e += kWide) {
    P::template context_tile<rows, 1, false>(values.data + e, values.stride, 0, weights, keys, decay, ask,
                                             context + e, context_stride);
  }
  if (e < width) {
    P::template context_tile<rows, 1, true>(values.data + e, values.stride, (int)(width - e), weights, keys,
                                            decay, ask, context + e, context_stride);
  }
}

}  // namespace
}  // namespace sightline
