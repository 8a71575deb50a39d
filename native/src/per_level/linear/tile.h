// The inner loop of a linear layer's product: a tile of `out` whose sums stay in registers.
//
// Lanes lie along columns of `out`, so that its rows are written as they lie; numbers of `a` are broadcast.
#pragma once

#include "per_level/memory/ahead.h"

namespace sightline {
namespace {

// kLinearRows x kLinearVectors sums, the vectors of weights and one broadcast fill the registers. Fewer
// vectors and more rows than in a tile of attention: weights are read from L2, and a row's numbers from L1.
#if defined(__AVX512F__)
constexpr int kLinearRows = 12, kLinearVectors = 2;
#elif defined(__aarch64__)
constexpr int kLinearRows = 6, kLinearVectors = 4;
#else
constexpr int kLinearRows = 6, kLinearVectors = 2;
#endif
constexpr int kLinearLanes = kLinearVectors * kLanes;

// So many depths one after another: between two of these strips a few cache lines are asked for.
constexpr int kLinearStrip = 16, kLinearLinesPerStrip = 2;
// How many depths before they are needed weights are asked for, from memory and from L2.
constexpr int kLinearFarAhead = 96, kLinearAhead = 16;

// After so many depths sums begin anew, and what there was is added up: a chain of 384 additions would be
// three times as far off as PyTorch's products of few rows are.
constexpr int kLinearChain = 128;

// Where a tile goes. What stands there is added to, unless the sums begin with the bias (or 0).
struct LinearOut {
  float* data;
  int64_t stride;
  const float* bias;  // of its columns, or null
  bool adds;
};

template <int rows>
struct LinearSums {
  Vec at[rows][kLinearVectors] = {};
};

// The sums of depths [begin, end) of a tile.
template <int rows, class BetweenStrips>
SL_INLINE void add_depths(const float* __restrict a, int64_t a_stride, const float* __restrict panel,
                          int64_t begin, int64_t end, LinearSums<rows>& sum, const BetweenStrips& between) {
  for (int64_t strip = begin; strip < end; strip += kLinearStrip) {
    between();
    const int64_t stop = smaller(strip + kLinearStrip, end);
    for (int64_t d = strip; d < stop; d++) {
      const float* at = panel + d * kLinearLanes;
      Vec weight[kLinearVectors];
      SL_UNROLL for (int v = 0; v < kLinearVectors; v++) {
        __builtin_prefetch(at + kLinearFarAhead * kLinearLanes + v * kLanes, 0, 2);
        __builtin_prefetch(at + kLinearAhead * kLinearLanes + v * kLanes, 0, 3);
        weight[v] = load(at + v * kLanes);
      }
      SL_UNROLL for (int r = 0; r < rows; r++) {
        const Vec x = splat_word(a + r * a_stride + d);
        SL_UNROLL for (int v = 0; v < kLinearVectors; v++) sum.at[r][v] = fma(x, weight[v], sum.at[r][v]);
      }
    }
  }
}

template <int rows>
SL_INLINE void linear_tile(const float* a, int64_t a_stride, const float* panel, int64_t depth,
                           const LinearOut& out, Ahead& ahead) {
  LinearSums<rows> total;
  for (int v = 0; out.bias && v < kLinearVectors; v++) {
    const Vec bias = load(out.bias + v * kLanes);
    SL_UNROLL for (int r = 0; r < rows; r++) total.at[r][v] = bias;
  }
  int asked = 0;  // rows of `out`
  for (int64_t begin = 0; begin < depth; begin += kLinearChain) {
    LinearSums<rows> sum;
    add_depths(a, a_stride, panel, begin, smaller(begin + kLinearChain, depth), sum, [&] {
      ahead.step(kLinearLinesPerStrip);
      if (asked == rows) return;
      const float* to = out.data + asked++ * out.stride;
      SL_UNROLL for (int v = 0; v < kLinearVectors; v++) __builtin_prefetch(to + v * kLanes, 1, 3);
    });
    SL_UNROLL for (int r = 0; r < rows; r++) {
      SL_UNROLL for (int v = 0; v < kLinearVectors; v++) total.at[r][v] += sum.at[r][v];
    }
  }
  SL_UNROLL for (int r = 0; r < rows; r++) {
    SL_UNROLL for (int v = 0; v < kLinearVectors; v++) {
      float* to = out.data + r * out.stride + v * kLanes;
      store(to, out.adds ? load(to) + total.at[r][v] : total.at[r][v]);
    }
  }
}

}  // namespace
}  // namespace sightline
