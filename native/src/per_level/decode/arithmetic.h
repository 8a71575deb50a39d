// What an element type is multiplied as: floats, or pairs of bfloat16 where the level has products of them.
#pragma once

#include "per_level/decode/ask.h"
#include "per_level/products/words.h"
#include "per_level/vectors/wide.h"
#include "shared/work.h"

namespace sightline {
namespace {

// Rows of a tile: rows * 4 keys accumulators, their operands and a query must fit the registers.
constexpr int kDecodeTileRows = kTileRows * kSlabVectors >= 24 ? 4 : 2;
constexpr int kDecodeKeys = kDecodeCell;  // keys of a chunk

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

// As in products/seen.h: values that meet the weights of some rows, with zeros for those that a row does not
// see.
struct SeenByRow {
  const float* masked;  // [row][kDecodeKeys]
  SL_INLINE bool sees(int row, int key) const { return masked[row * kDecodeKeys + key] != -kInfinity; }
  SL_INLINE Vec operator()(Vec value, int row, int key) const { return sees(row, key) ? value : Vec{}; }
#if defined(__AVX512BF16__)
  // Pairs of values, of keys `key` and `key` + 1.
  SL_INLINE __m512bh operator()(__m512bh values, int row, int key) const {
    const uint32_t bits = (sees(row, key) ? 0xffffu : 0) | (sees(row, key + 1) ? 0xffff0000u : 0);
    return (__m512bh)_mm512_and_si512((__m512i)values, _mm512_set1_epi32((int32_t)bits));
  }
#endif
};
struct AllSeenByRow {
  template <class Factor>
  SL_INLINE Factor operator()(Factor value, int, int) const {
    return value;
  }
};

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

  template <int rows, int wides, bool part, class Seen>
  SL_INLINE static void context_tile(const Element* value, int64_t stride, int count, const float* weights,
                                     int keys, const float* decay, int64_t ask, float* context,
                                     int64_t context_stride, const Seen& seen) {
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
          sum[r][w] = fma(weight, seen(v[w / 2].v[w % 2], r, k), sum[r][w]);
        }
      }
    }
    add_to_context<rows, 2 * wides>(sum, decay, context, context_stride);
  }
};

// --- Products of bfloat16 pairs ---

// Processors with AMX take four times as long for a dot product as for a multiply-add.
#if defined(SL_BFLOAT16_PRODUCTS) && !defined(SL_AMX_PRODUCTS)

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

  template <int rows, int wides, bool part, class Seen>
  SL_INLINE static void context_tile(const Bfloat16* value, int64_t stride, int count,
                                     const Bfloat16* weights, int keys, const float* decay, int64_t ask,
                                     float* context, int64_t context_stride, const Seen& seen) {
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
        SL_UNROLL for (int i = 0; i < 2 * wides; i++) {
          sum[r][i] = multiply(weight, seen(v[i], r, k), sum[r][i]);
        }
      }
    }
    add_to_context<rows, 2 * wides>(sum, decay, context, context_stride);
  }
};

constexpr int32_t kDecodeProducts = SIGHTLINE_BFLOAT16_PAIRS;  // of bfloat16
template <class Element>
struct ProductsOf {
  typedef FloatProducts<Element> Type;
};
template <>
struct ProductsOf<Bfloat16> {
  typedef PairProducts Type;
};

#else

constexpr int32_t kDecodeProducts = SIGHTLINE_FLOAT32_WORDS;
template <class Element>
struct ProductsOf {
  typedef FloatProducts<Element> Type;
};

#endif

}  // namespace
}  // namespace sightline
