// The arithmetic of the two matrix products.
//
// Both multiply 32-bit words: one float, or two bfloat16 neighbours along the axis that is summed (queries
// and keys pair up columns, weights and values pair up keys). Either way the sums are float32. Where there is
// AMX, sixteen rows of sixteen words meet in its registers at once (products/amx.h).
#pragma once

#include "per_level/vectors/dtypes.h"

namespace sightline {
namespace {

// How operands lie, and how keys are cut, for products that broadcast one word after another.
struct Broadcast {
  static constexpr int kRowWords = 1;       // rows of queries and keys are padded to a multiple of so many
  static constexpr bool kByColumn = false;  // whether words of keys lie along their columns' rows
  static constexpr int kFirstKeys = 2;      // segments of keys begin at a multiple of so many
  static constexpr int kPatchKeys = 16;     // of a patch that an edge crosses
  // Scores of a chunk of keys, and the rows that they are made of, should stay in L1 together.
  static constexpr int kChunkKeys = kLanes == 16 ? 128 : 64;
  struct Session {};  // lives as long as a block's products
};

struct Float32Products : Broadcast {
  static constexpr int32_t kName = SIGHTLINE_FLOAT32_WORDS;
  static constexpr int kElements = 1;  // of one word
  // Whether the query is packed with the factor that its scores need, or the scores are multiplied with it.
  static constexpr bool kQueryTakesFactor = true;

  static SL_INLINE Vec multiply_add(Vec a, Vec b, Vec c) { return fma(a, b, c); }
  static SL_INLINE Vec join(const Vec (&elements)[1]) { return elements[0]; }
  // One row's sum of products, the words one after another; close() follows every kLanes of them.
  struct RowSum {
    Vec sum = {};
    SL_INLINE void add(Vec a, Vec b) { sum = multiply_add(a, b, sum); }
    SL_INLINE void close() {}
  };
};

#if defined(__AVX512BF16__)
#define SL_BFLOAT16_PRODUCTS

// A vector of pairs: two vectors' worth of bfloat16.
constexpr int kPairLanes = 2 * kLanes;
typedef uint16_t PairVec __attribute__((vector_size(2 * kPairLanes)));

SL_INLINE PairVec load_pairs(const Bfloat16* p) {
  PairVec v;
  memcpy(&v, p, sizeof v);
  return v;
}
SL_INLINE void store_pairs(float* p, PairVec v) { memcpy(p, &v, sizeof v); }

// a0 b0 a1 b1 ... of the low or the high halves.
SL_INLINE PairVec interleave_low(PairVec a, PairVec b) {
  return SL_SHUFFLE(PairVec, a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10,
                    42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47);
}
SL_INLINE PairVec interleave_high(PairVec a, PairVec b) {
  return SL_SHUFFLE(PairVec, a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25,
                    57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63);
}

struct Bfloat16Products : Broadcast {
  static constexpr int32_t kName = SIGHTLINE_BFLOAT16_PAIRS;
  static constexpr int kElements = 2;
  static constexpr bool kQueryTakesFactor = false;  // it would have to be rounded again

  static SL_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
    return (Vec)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  }
  struct RowSum {
    Vec sum = {};
    SL_INLINE void add(Vec a, Vec b) { sum = multiply_add(a, b, sum); }
    SL_INLINE void close() {}
  };
  // Rounded to nearest: truncated weights would pull every context towards 0. NaN stays NaN.
  static SL_INLINE Vec join(const Vec (&elements)[2]) {
    const __m512i halves = (__m512i)_mm512_cvtne2ps_pbh((__m512)elements[1], (__m512)elements[0]);
    const __m512i pairs = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return (Vec)_mm512_permutexvar_epi16(pairs, halves);
  }
  // The words of elements that are neighbours already, of two vectors one after the other.
  static SL_INLINE Vec line_up(const Vec (&elements)[2]) {
    return (Vec)_mm512_cvtne2ps_pbh((__m512)elements[1], (__m512)elements[0]);
  }
};

#endif

#if defined(__AMX_BF16__)
#define SL_AMX_PRODUCTS

// The sums of one product of AMX are those of the first and of the second elements of its words, added to the
// row's sum in the end: the same numbers in the same order, lane by lane.
struct PairSum {
  Vec sum = {}, first = {}, second = {};
  SL_INLINE void add(Vec a, Vec b) {
    first = fma((Vec)((IntVec)a << 16), (Vec)((IntVec)b << 16), first);
    second = fma(high_half(a), high_half(b), second);
  }
  SL_INLINE void close() {
    sum += first + second;
    first = second = Vec{};
  }

 private:
  static SL_INLINE Vec high_half(Vec x) { return (Vec)((IntVec)x & splat_int((int32_t)0xffff0000)); }
};

struct AmxProducts : Bfloat16Products {
  static constexpr int32_t kName = SIGHTLINE_BFLOAT16_TILES;
  static constexpr int kRowWords = kLanes;
  static constexpr bool kByColumn = true;
  // A register is loaded a cache line at a time: one that lies across two takes six times as long.
  static constexpr int kFirstKeys = 2 * kLanes, kPatchKeys = 2 * kLanes;
  // Sums are read and written once for each chunk: with chunks of 128 keys all takes a twentieth longer.
  static constexpr int kChunkKeys = 256;
  struct Session {
    Session();
    ~Session();
  };
  typedef PairSum RowSum;
};

#endif

// The same products, of a query that needs no factor.
template <class Products>
struct Unscaled : Products {
  static constexpr bool kQueryTakesFactor = true;
};

#if defined(SL_AMX_PRODUCTS)
constexpr int kMostChunkKeys = AmxProducts::kChunkKeys;
#else
constexpr int kMostChunkKeys = Float32Products::kChunkKeys;
#endif

// Words of `elements` elements.
template <class Products>
constexpr int64_t words(int64_t elements) {
  return (elements + Products::kElements - 1) / Products::kElements;
}

// Words of a row of queries or keys.
template <class Products>
constexpr int64_t row_words(int64_t width) {
  return (words<Products>(width) + Products::kRowWords - 1) / Products::kRowWords * Products::kRowWords;
}

// The products that serve a problem at this level, as a template argument: body(Products()).
template <class Body>
SL_INLINE auto with_products(int32_t dtype, const Body& body) {
#if defined(SL_AMX_PRODUCTS)
  if (dtype == SIGHTLINE_BFLOAT16) return body(AmxProducts());
#elif defined(SL_BFLOAT16_PRODUCTS)
  if (dtype == SIGHTLINE_BFLOAT16) return body(Bfloat16Products());
#endif
  (void)dtype;
  return body(Float32Products());
}

}  // namespace
}  // namespace sightline
