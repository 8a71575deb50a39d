// Elements as callers store them: float, bfloat16 and float16, read into and written from vectors of floats.
//
// Reading is exact. Writing rounds to nearest even, keeps NaN a NaN, and keeps subnormal numbers.
#pragma once

#include "per_level/vectors/simd.h"
#include "sightline.h"

namespace sightline {
namespace {

struct Bfloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

typedef uint16_t HalfVec __attribute__((vector_size(2 * kLanes)));

SL_INLINE IntVec widen(HalfVec bits) { return __builtin_convertvector(bits, IntVec); }
SL_INLINE HalfVec narrow(IntVec bits) { return __builtin_convertvector(bits, HalfVec); }

// --- One vector of bits to floats and back ---

SL_INLINE Vec to_floats(HalfVec bits, Bfloat16) { return (Vec)(widen(bits) << 16); }

// Ties go to even. A NaN becomes a quiet one: rounding its bits might carry it over to infinity or zero. They
// are added without a sign: those of a NaN may overflow.
SL_INLINE HalfVec from_floats(Vec x, Bfloat16) {
  typedef uint32_t Bits __attribute__((vector_size(sizeof(Vec))));
  const IntVec bits = (IntVec)x, odd = (bits >> 16) & splat_int(1);
  const IntVec rounded = (IntVec)((Bits)bits + (Bits)splat_int(0x7fff) + (Bits)odd) >> 16;
  const IntVec quiet = (bits >> 16) | splat_int(0x40);
  return narrow(select_int(equal(x, x), rounded, quiet) & splat_int(0xffff));
}

#if defined(__AVX512F__)

SL_INLINE Vec to_floats(HalfVec bits, Float16) { return _mm512_cvtph_ps((__m256i)bits); }
SL_INLINE HalfVec from_floats(Vec x, Float16) {
  return (HalfVec)_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

#elif defined(__AVX2__) && defined(__F16C__)

SL_INLINE Vec to_floats(HalfVec bits, Float16) { return _mm256_cvtph_ps((__m128i)bits); }
SL_INLINE HalfVec from_floats(Vec x, Float16) {
  return (HalfVec)_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

#else

// The exponent moves from a bias of 15 to one of 127. Subnormal numbers are given a leading 1 that is
// subtracted again; infinity and NaN go to the top exponent.
SL_INLINE Vec to_floats(HalfVec half, Float16) {
  const IntVec bits = widen(half), size = (bits & splat_int(0x7fff)) << 13;
  const IntVec normal = size + splat_int(112 << 23);
  const IntVec subnormal = (IntVec)((Vec)(normal + splat_int(1 << 23)) - splat(6.103515625e-05f));
  const IntVec finite = select_int(greater_int(splat_int(1 << 23), size), subnormal, normal);
  const IntVec found =
      select_int(greater_int(splat_int(0x1f << 23), size), finite, size | splat_int(0x7f800000));
  return (Vec)(found | (bits & splat_int(0x8000)) << 16);
}

// Below 2^-14 adding 0.5 leaves the subnormal's bits, rounded, at the bottom of the mantissa.
SL_INLINE HalfVec from_floats(Vec x, Float16) {
  const IntVec size = (IntVec)absolute(x), odd = (size >> 13) & splat_int(1);
  const IntVec normal = (size - splat_int(112 << 23) + splat_int(0xfff) + odd) >> 13;
  const IntVec subnormal = (IntVec)((Vec)size + splat(0.5f)) - splat_int(126 << 23);
  const IntVec finite = select_int(greater_int(splat_int(113 << 23), size), subnormal, normal);
  const IntVec special =
      select_int(greater_int(size, splat_int(0x7f800000)), splat_int(0x7e00), splat_int(0x7c00));
  const IntVec found = select_int(greater_int(splat_int(0x477ff000), size), finite, special);
  return narrow(found | (((IntVec)x >> 16) & splat_int(0x8000)));
}

#endif

// --- In memory ---

template <class Half>
SL_INLINE Vec load_half(const Half* p, int count) {
  HalfVec bits = {};
  memcpy(&bits, p, sizeof(Half) * count);
  return to_floats(bits, Half());
}
template <class Half>
SL_INLINE void store_half(Half* p, Vec x, int count) {
  const HalfVec bits = from_floats(x, Half());
  memcpy(p, &bits, sizeof(Half) * count);
}

SL_INLINE Vec load(const Bfloat16* p) { return load_half(p, kLanes); }
SL_INLINE Vec load(const Float16* p) { return load_half(p, kLanes); }
SL_INLINE Vec load_part(const Bfloat16* p, int count) { return load_half(p, count); }
SL_INLINE Vec load_part(const Float16* p, int count) { return load_half(p, count); }
SL_INLINE void store(Bfloat16* p, Vec x) { store_half(p, x, kLanes); }
SL_INLINE void store(Float16* p, Vec x) { store_half(p, x, kLanes); }
SL_INLINE void store_part(Bfloat16* p, Vec x, int count) { store_half(p, x, count); }
SL_INLINE void store_part(Float16* p, Vec x, int count) { store_half(p, x, count); }

template <class Element>
SL_INLINE float to_float(const Element* p) {
  return load_part(p, 1)[0];
}
SL_INLINE float to_float(const float* p) { return *p; }

// --- The element type, known at run time, as a template argument: body(Element()) ---

template <class Body>
SL_INLINE void with_element(int32_t dtype, const Body& body) {
  if (dtype == SIGHTLINE_BFLOAT16) return body(Bfloat16());
  if (dtype == SIGHTLINE_FLOAT16) return body(Float16());
  body(float());
}

}  // namespace
}  // namespace sightline
