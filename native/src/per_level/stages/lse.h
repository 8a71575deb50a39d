// The lse of a row: the natural logarithm as float64 between calls, two floats in units of log 2 within them.
//
// The float32 next to an lse of 200 is up to 8e-6 away, and so would be every weight of the row.
#pragma once

#include <cmath>

#include "per_level/memory/scratch.h"
#include "per_level/vectors/simd.h"

namespace sightline {
namespace {

// Below this, in units of log 2, an lse is m (1 + 2^-31 log2 l): float64 has no place for both in their sum,
// and a row that sees nothing but keys with a bias of -1e30, say, needs both. As a float32 it is m either
// way.
constexpr double kFar = -0x1p24, kFarShare = 0x1p-31;

// An m of -kFloatMax stands for all that is too low to be told in units of log 2.
inline double natural_units(float highest) {
  return highest == -kFloatMax ? (double)highest : highest * kLn2Exact;
}

// m + log l, `highest` in units of log 2.
inline double natural_lse(float highest, float sum) {
  if (sum == 0) return -(double)kInfinity;
  const double log_sum = std::log2((double)sum);
  if (highest < kFar) return natural_units(highest) * (1 + kFarShare * log_sum);
  return (highest + log_sum) * kLn2Exact;
}

struct Lse {
  float high, low;  // their sum, in units of log 2
};

// Weights of rows whose lse is +infinity are 0.
constexpr Lse kNoWeights = {kInfinity, 0.0f};

// A row with nothing to look at has lse -infinity.
inline Lse split_lse(double natural) {
  if (natural == -(double)kInfinity) return kNoWeights;
  const double lse = natural * kLog2eExact;
  const float high = lse < -(double)kFloatMax ? -kFloatMax : (float)lse;
  if (lse < kFar) return {high, (float)((natural / natural_units(high) - 1) / kFarShare)};
  return {high, (float)(lse - high)};
}

// The lse of a block's rows.
struct LseRows {
  float *high, *low;  // [kBlockRows]

  void set(int row, Lse lse) const { high[row] = lse.high, low[row] = lse.low; }
  LseRows from(int row) const { return {high + row, low + row}; }
  // log2 of a row's weight.
  float log_weight(float masked, int row) const { return (masked - high[row]) - low[row]; }
};

inline LseRows take_lse(Scratch& scratch) {
  float* high = scratch.take<float>(kBlockRows);
  return {high, scratch.take<float>(kBlockRows)};
}

// That of some vectors of rows.
template <int vectors>
struct LseVectors {
  Vec high[vectors], low[vectors];

  explicit SL_INLINE LseVectors(const LseRows& rows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      high[v] = load(rows.high + v * kLanes), low[v] = load(rows.low + v * kLanes);
    }
  }
  // log2 of weights, vector v of the rows: the large part cancels first.
  SL_INLINE Vec log_weight(Vec masked, int v) const { return (masked - high[v]) - low[v]; }
};

}  // namespace
}  // namespace sightline
