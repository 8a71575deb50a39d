// weights of one row: a running softmax over chunks of keys, as in forward/weights.h, lanes along the keys.
#pragma once

#include "per_level/vectors/dtypes.h"
#include "per_level/vectors/functions.h"

namespace sightline {
namespace {

SL_INLINE float highest_of_lanes(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(v);
#else
  float highest = v[0];
  SL_UNROLL for (int l = 1; l < kLanes; l++) highest = larger(highest, v[l]);
  return highest;
#endif
}

SL_INLINE void store_weight(float* to, Vec weight) { store(to, weight); }
#if defined(__AVX512BF16__)
SL_INLINE void store_weight(Bfloat16* to, Vec weight) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(weight));
}
#endif

// masked -> weights of one row; moves m and l on. Returns the decay. `exact`: the weights as floats, where
// those are kept and Weight is something else; null: not wanted.
template <class Weight>
SL_INLINE float weigh_row(const float* scores, int count, float& highest, float* sum_lanes, Weight* weights,
                          float* exact) {
  Vec high = splat(-kInfinity);
  for (int k = 0; k < count; k += kLanes) high = max_of(high, load(scores + k));
  const float before = highest, after = larger(before, highest_of_lanes(high));
  // A row that has seen nothing yet: subtracting -infinity would give NaN, subtracting 0 gives weights 0.
  const float shift = after == -kInfinity ? 0.0f : after;
  const float decay = before == shift ? 1.0f : exp2(splat(before - shift))[0];
  Vec sum = {};
  for (int k = 0; k < count; k += kLanes) {
    const Vec weight = exp2(load(scores + k) - splat(shift));
    sum += weight;
    store_weight(weights + k, weight);
    if (exact) store(exact + k, weight);
  }
  highest = after;
  store(sum_lanes, fma(load(sum_lanes), splat(decay), sum));
  return decay;
}

}  // namespace
}  // namespace sightline
