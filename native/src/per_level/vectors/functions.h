// 2^x and tanh, lane by lane.
#pragma once

#include "per_level/vectors/simd.h"

namespace sightline {
namespace {

// 2^x to about 1e-7, relative. Exactly 1 of 0: a row that has one weight has its value for context. Exactly 0
// below 2^-126, so that no weight is ever subnormal (arithmetic on those is slow); NaN stays NaN.
SL_INLINE Vec exp2(Vec x) {
#if defined(__AVX512F__)
  const Vec f = _mm512_reduce_ps(x, 0x09);  // x - floor(x), in [0, 1)
  Vec p = splat(0.0018671452800992927f);
  p = fma(p, f, splat(0.009016993467120534f));
  p = fma(p, f, splat(0.05579994537003092f));
  p = fma(p, f, splat(0.24016443806282908f));
  p = fma(p, f, splat(0.6931513133449985f));
  p = fma(p, f, splat(1.0f));
  const Mask normal = _mm512_cmp_ps_mask(x, splat(-126.0f), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(normal, p, x);
#else
  // Adding 1.5 * 2^23 rounds to an integer; 127 more leaves the exponent field of 2^round(x) in the low bits.
  const Vec magic = splat(12582912.0f + 127.0f);
  const Vec shifted = x + magic;
  const Vec f = x - (shifted - magic);  // in [-0.5, 0.5]
  Vec p = splat(0.0013264727247094062f);
  p = fma(p, f, splat(0.009671512688148235f));
  p = fma(p, f, splat(0.05550733743574177f));
  p = fma(p, f, splat(0.24022242084635154f));
  p = fma(p, f, splat(0.6931469775987167f));
  p = fma(p, f, splat(1.0f));
  const Vec power = p * (Vec)((IntVec)shifted << 23);
  const IntVec underflow = x < splat(-126.0f);
  return (Vec)(~underflow & (IntVec)power);
#endif
}

// tanh with a small relative error everywhere: a polynomial near 0, where 1 - 2 / (e^2x + 1) would cancel.
SL_INLINE Vec tanh(Vec x) {
  const Vec square = x * x;
  Vec p = splat(-0.005704986419237824f);
  p = fma(p, square, splat(0.020639086747116692f));
  p = fma(p, square, splat(-0.0537397149382574f));
  p = fma(p, square, splat(0.13331442196469107f));
  p = fma(p, square, splat(-0.33333281941951776f));
  const Vec near_zero = fma(p * square, x, x);

  const Vec size = absolute(x);
  const Vec clamped = select(greater(size, splat(20.0f)), splat(20.0f), size);  // 1.0f beyond; keeps NaN
  const Vec far = splat(1.0f) - splat(2.0f) / (exp2(clamped * splat(2.0f * kLog2e)) + splat(1.0f));
  const IntVec sign = (IntVec)x & splat_int(INT32_MIN);
  return select(greater(splat(0.625f), size), near_zero, (Vec)((IntVec)far | sign));
}

}  // namespace
}  // namespace sightline
