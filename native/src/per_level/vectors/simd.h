// The vector wrapper: what the kernels need of an instruction set, and no more.
//
// Most of it is GCC/Clang vector extensions, which any architecture compiles; intrinsics stand only where
// those produce poor code. The file is compiled once per level with SIGHTLINE_LEVEL naming it. All of a
// level lives in an unnamed namespace, so that no function compiled for one instruction set can be linked
// into the path of another.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#define SL_INLINE inline __attribute__((always_inline))
#define SL_OUTLINE __attribute__((noinline))
#define SL_UNROLL _Pragma("GCC unroll 32")

namespace sightline {
namespace {

// Tile shapes. A slab is the run of queries that one tile covers: `kSlabVectors` vectors of `kLanes`.
// kTileRows x kSlabVectors accumulators, the slab's operands and one broadcast must fit the registers.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kSlabVectors = 4, kTileRows = 6;  // 32 registers
#elif defined(__AVX2__)
constexpr int kLanes = 8, kSlabVectors = 2, kTileRows = 6;  // 16 registers
#elif defined(__aarch64__)
constexpr int kLanes = 4, kSlabVectors = 4, kTileRows = 6;  // 32 registers
#else
constexpr int kLanes = 4, kSlabVectors = 2, kTileRows = 6;  // 16 registers
#endif
constexpr int kBlockRows = 64;  // queries of one block
constexpr int kSlabRows = kSlabVectors * kLanes;
constexpr int kSlabs = kBlockRows / kSlabRows;
constexpr int kBlockVectors = kBlockRows / kLanes;

typedef float Vec __attribute__((vector_size(4 * kLanes)));
typedef int32_t IntVec __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes16 __attribute__((vector_size(16)));

constexpr float kInfinity = __builtin_inff();
constexpr float kFloatMax = 3.402823466e+38f;
constexpr double kLog2eExact = 1.4426950408889634;
constexpr float kLog2e = (float)kLog2eExact;
constexpr double kLn2Exact = 0.6931471805599453;
constexpr float kLn2 = (float)kLn2Exact;

// Logits in units of log 2 and back. A large finite one (torch.finfo.min is a common way to hide a key) stays
// finite: only -infinity means hidden.
SL_INLINE float to_log2(float x) {
  const float product = x * kLog2e;
  return product == -kInfinity && x != -kInfinity ? -kFloatMax : product;
}
SL_INLINE float from_log2(float x) { return x == -kFloatMax ? x : x * kLn2; }

template <class T>
SL_INLINE constexpr T smaller(T a, T b) {
  return b < a ? b : a;
}
template <class T>
SL_INLINE constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

SL_INLINE Vec splat(float x) { return x - Vec{}; }
SL_INLINE IntVec splat_int(int32_t x) { return x - IntVec{}; }

SL_INLINE Vec load(const float* p) {
  Vec v;
  memcpy(&v, p, sizeof v);
  return v;
}
SL_INLINE IntVec load_int(const int32_t* p) {
  IntVec v;
  memcpy(&v, p, sizeof v);
  return v;
}
// All lanes the 32 bits at p, whatever they mean.
SL_INLINE Vec splat_word(const float* p) {
#if defined(__AVX512F__)
  return _mm512_set1_ps(*p);
#else
  return splat(*p);
#endif
}
SL_INLINE void store(float* p, Vec v) { memcpy(p, &v, sizeof v); }
SL_INLINE void store_int(int32_t* p, IntVec v) { memcpy(p, &v, sizeof v); }

// Whole cache lines straight to memory, which need not be read for it, where a vector is as long as one.
// After the last, end_streaming(): other threads see them from then on.
#if defined(__AVX512F__)
SL_INLINE bool may_stream(const void* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(Vec) == 0; }
SL_INLINE void stream(void* p, Vec v) { _mm512_stream_ps(static_cast<float*>(p), (__m512)v); }
SL_INLINE void end_streaming() { _mm_sfence(); }
#else
SL_INLINE bool may_stream(const void*) { return false; }
SL_INLINE void stream(void* p, Vec v) { memcpy(p, &v, sizeof v); }
SL_INLINE void end_streaming() {}
#endif

// The first `count` lanes; the others read 0 and are not written.
SL_INLINE Vec load_part(const float* p, int count) {
  Vec v = {};
  memcpy(&v, p, sizeof(float) * count);
  return v;
}
SL_INLINE void store_part(float* p, Vec v, int count) { memcpy(p, &v, sizeof(float) * count); }

// --- Comparison and selection. A Mask holds one truth value per lane. ---

#if defined(__AVX512F__)

typedef __mmask16 Mask;
SL_INLINE Mask greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
SL_INLINE Mask not_greater(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_NGT_UQ); }
SL_INLINE Mask equal(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
SL_INLINE Mask is_nan(Vec a) { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
SL_INLINE Mask either_nan(Vec a, Vec b) { return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q); }
SL_INLINE Mask greater_int(IntVec a, IntVec b) { return _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b); }
SL_INLINE Vec select(Mask m, Vec yes, Vec no) { return _mm512_mask_mov_ps(no, m, yes); }
SL_INLINE IntVec select_int(Mask m, IntVec yes, IntVec no) {
  return (IntVec)_mm512_mask_mov_epi32((__m512i)no, m, (__m512i)yes);
}
SL_INLINE bool any(Mask m) { return m != 0; }
SL_INLINE Mask both(Mask a, Mask b) { return _kand_mask16(a, b); }
SL_INLINE Mask either(Mask a, Mask b) { return _kor_mask16(a, b); }

#else

typedef IntVec Mask;  // all bits or none
SL_INLINE Mask greater(Vec a, Vec b) { return a > b; }
SL_INLINE Mask not_greater(Vec a, Vec b) { return ~(a > b); }
SL_INLINE Mask equal(Vec a, Vec b) { return a == b; }
SL_INLINE Mask is_nan(Vec a) { return a != a; }
SL_INLINE Mask greater_int(IntVec a, IntVec b) { return a > b; }
#if defined(__AVX2__)
SL_INLINE Mask either_nan(Vec a, Vec b) { return (Mask)_mm256_cmp_ps(a, b, _CMP_UNORD_Q); }
SL_INLINE Vec select(Mask m, Vec yes, Vec no) { return _mm256_blendv_ps(no, yes, (__m256)m); }
SL_INLINE bool any(Mask m) { return _mm256_movemask_ps((__m256)m) != 0; }
#else
SL_INLINE Mask either_nan(Vec a, Vec b) { return (a != a) | (b != b); }
SL_INLINE Vec select(Mask m, Vec yes, Vec no) { return (Vec)((m & (IntVec)yes) | (~m & (IntVec)no)); }
SL_INLINE bool any(Mask m) {
  uint64_t halves[2];
  memcpy(halves, &m, sizeof halves);
  return (halves[0] | halves[1]) != 0;
}
#endif
SL_INLINE IntVec select_int(Mask m, IntVec yes, IntVec no) { return (IntVec)select(m, (Vec)yes, (Vec)no); }
SL_INLINE Mask both(Mask a, Mask b) { return a & b; }
SL_INLINE Mask either(Mask a, Mask b) { return a | b; }

#endif

// --- Arithmetic ---

// Where either is NaN, the second comes out: max_of(running, fresh) lets a fresh NaN in.
SL_INLINE Vec max_of(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_max_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_max_ps(a, b);
#else
  return select(greater(a, b), a, b);
#endif
}

// Where either is NaN, the second comes out.
SL_INLINE Vec min_of(Vec a, Vec b) {
#if defined(__AVX512F__)
  return _mm512_min_ps(a, b);
#elif defined(__AVX2__)
  return _mm256_min_ps(a, b);
#else
  return select(greater(b, a), a, b);
#endif
}

SL_INLINE Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

// Lanes that are ones throughout, as bits, or zeros; and what such lanes leave of others.
SL_INLINE Vec bits_unless(Mask m) { return select(m, Vec{}, (Vec)splat_int(-1)); }
SL_INLINE Vec keep_bits(Vec a, Vec bits) { return (Vec)((IntVec)a & (IntVec)bits); }

SL_INLINE Vec absolute(Vec a) { return (Vec)((IntVec)a & splat_int(0x7fffffff)); }

SL_INLINE float sum_of_lanes(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

// True in the lanes whose byte is not 0.
SL_INLINE Mask nonzero_bytes(const uint8_t* p) {
#if defined(__AVX512F__)
  return _mm_test_epi8_mask(_mm_loadu_si128((const __m128i*)p), _mm_set1_epi8(-1));
#else
  typedef uint8_t LaneBytes __attribute__((vector_size(kLanes)));
  LaneBytes bytes;
  memcpy(&bytes, p, sizeof bytes);
  return __builtin_convertvector(bytes, IntVec) != 0;
#endif
}

// --- Interleaving ---
// a0 b0 a1 b1 ... of the low or the high halves. log2(n) rounds of it transpose n x n.

#if defined(__clang__) || __GNUC__ >= 12
#define SL_SHUFFLE(IndexVec, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SL_SHUFFLE(IndexVec, a, b, ...) __builtin_shuffle(a, b, (IndexVec){__VA_ARGS__})
#endif

#if defined(__AVX512F__)
#define SL_LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define SL_HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define SL_LOW_HALVES 0, 8, 1, 9, 2, 10, 3, 11
#define SL_HIGH_HALVES 4, 12, 5, 13, 6, 14, 7, 15
#else
#define SL_LOW_HALVES 0, 4, 1, 5
#define SL_HIGH_HALVES 2, 6, 3, 7
#endif

SL_INLINE Vec interleave_low(Vec a, Vec b) { return SL_SHUFFLE(IntVec, a, b, SL_LOW_HALVES); }
SL_INLINE Vec interleave_high(Vec a, Vec b) { return SL_SHUFFLE(IntVec, a, b, SL_HIGH_HALVES); }
SL_INLINE Bytes16 interleave_low(Bytes16 a, Bytes16 b) {
  return SL_SHUFFLE(Bytes16, a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
SL_INLINE Bytes16 interleave_high(Bytes16 a, Bytes16 b) {
  return SL_SHUFFLE(Bytes16, a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

// Transposes n vectors of n lanes in place.
template <int n, class Row>
SL_INLINE void transpose(Row (&rows)[n]) {
  SL_UNROLL for (int round = 1; round < n; round *= 2) {
    Row mixed[n];
    SL_UNROLL for (int i = 0; i < n / 2; i++) {
      mixed[2 * i] = interleave_low(rows[i], rows[i + n / 2]);
      mixed[2 * i + 1] = interleave_high(rows[i], rows[i + n / 2]);
    }
    SL_UNROLL for (int i = 0; i < n; i++) rows[i] = mixed[i];
  }
}

#if defined(__AVX2__) && !defined(__AVX512F__)
// The same at half the shuffles: those that stay within halves of a vector first.
SL_INLINE void transpose(Vec (&rows)[8]) {
  __m256 half[8];  // columns c and c + 4 of four rows each
  SL_UNROLL for (int i = 0; i < 8; i += 4) {
    const __m256 low0 = _mm256_unpacklo_ps(rows[i], rows[i + 1]),
                 high0 = _mm256_unpackhi_ps(rows[i], rows[i + 1]),
                 low1 = _mm256_unpacklo_ps(rows[i + 2], rows[i + 3]),
                 high1 = _mm256_unpackhi_ps(rows[i + 2], rows[i + 3]);
    half[i] = (__m256)_mm256_unpacklo_pd((__m256d)low0, (__m256d)low1);
    half[i + 1] = (__m256)_mm256_unpackhi_pd((__m256d)low0, (__m256d)low1);
    half[i + 2] = (__m256)_mm256_unpacklo_pd((__m256d)high0, (__m256d)high1);
    half[i + 3] = (__m256)_mm256_unpackhi_pd((__m256d)high0, (__m256d)high1);
  }
  SL_UNROLL for (int c = 0; c < 4; c++) {
    rows[c] = _mm256_permute2f128_ps(half[c], half[c + 4], 0x20);
    rows[c + 4] = _mm256_permute2f128_ps(half[c], half[c + 4], 0x31);
  }
}
#endif

}  // namespace
}  // namespace sightline
