// Loads of two vectors of elements at once, as floats.
//
// Two halves share a 32-bit lane, so a wide load of bfloat16 yields the even elements, then the odd ones: a
// shift and a mask instead of a conversion that moves lanes. Sums over elements don't mind the order; whoever
// writes elements back asks place_of_element().
#pragma once

#include "per_level/vectors/dtypes.h"

namespace sightline {
namespace {

constexpr int kWide = 2 * kLanes;  // elements of one load

struct Wide {
  Vec v[2];
};

template <class Element>
SL_INLINE Wide load_wide(const Element* p) {
  return {{load(p), load(p + kLanes)}};
}
template <>
SL_INLINE Wide load_wide(const Bfloat16* p) {
  IntVec pairs;
  memcpy(&pairs, p, sizeof pairs);
  return {{(Vec)(pairs << 16), (Vec)(pairs & splat_int((int32_t)0xffff0000))}};
}

// The first `count` elements, 1 to kWide - 1; the others read 0.
template <class Element>
SL_INLINE Wide load_wide_part(const Element* p, int count) {
#if defined(__AVX512BW__)
  const uint32_t some = (1u << count) - 1;
  if (sizeof(Element) == 4) {
    return {{_mm512_maskz_loadu_ps((__mmask16)some, p),
             _mm512_maskz_loadu_ps((__mmask16)(some >> 16), p + kLanes)}};
  }
  const __m512i padded = _mm512_maskz_loadu_epi16(some, p);
  return load_wide(reinterpret_cast<const Element*>(&padded));
#else
  Element padded[kWide] = {};
  memcpy(padded, p, sizeof(Element) * count);
  return load_wide(padded);
#endif
}

// Where one of kWide elements lies in a Wide.
template <class Element>
SL_INLINE int place_of_element(int element) {
  return element;
}
template <>
SL_INLINE int place_of_element<Bfloat16>(int element) {
  return element / 2 + element % 2 * kLanes;
}

}  // namespace
}  // namespace sightline
