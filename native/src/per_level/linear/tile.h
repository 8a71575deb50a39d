// The inner loop of a linear layer's product: a tile of the result whose sums stay in registers.
//
// Lanes lie along columns of the result, so that its rows are written as they lie; numbers of `a` are
// broadcast.
#pragma once

#include "per_level/vectors/simd.h"

namespace sightline {
namespace {

// kLinearRows x kLinearVectors sums, the vectors of weights and one broadcast fit the registers. Nearly
// square, as loads take as long as multiply-adds do: 12 x 2 of AVX-512 needed a quarter more of them, and
// took 5 % longer.
#if defined(__AVX512F__)
constexpr int kLinearRows = 8, kLinearVectors = 3;
#elif defined(__aarch64__)
constexpr int kLinearRows = 6, kLinearVectors = 4;
#else
constexpr int kLinearRows = 6, kLinearVectors = 2;
#endif
constexpr int kLinearLanes = kLinearVectors * kLanes;

// How many numbers before they are needed weights are asked for, from memory and from L2.
constexpr int kLinearFarAhead = 3072, kLinearAhead = 512;

// What sums begin with, and where they go; for all rows alike where the stride is 0.
struct LinearSums {
  const float* from;
  int64_t from_stride;
  float* to;
  int64_t to_stride;
  bool asks;  // for the memory that they go to
};

// The sums over `depth` numbers; a `cold` panel was not read just now.
template <int rows, int vectors, bool cold>
SL_INLINE void linear_tile(const float* __restrict a, int64_t a_stride, const float* __restrict panel,
                           int64_t depth, const LinearSums& sums) {
  for (int r = 0; sums.asks && r < rows; r++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      __builtin_prefetch(sums.to + r * sums.to_stride + v * kLanes, 1, 3);
    }
  }
  Vec sum[rows][vectors] = {};
  for (int64_t d = 0; d < depth; d++) {
    const float* at = panel + d * vectors * kLanes;
    Vec weight[vectors];
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      if (cold) {
        __builtin_prefetch(at + kLinearFarAhead + v * kLanes, 0, 2);
        __builtin_prefetch(at + kLinearAhead + v * kLanes, 0, 3);
      }
      weight[v] = load(at + v * kLanes);
    }
    SL_UNROLL for (int r = 0; r < rows; r++) {
      const Vec x = splat_word(a + r * a_stride + d);
      SL_UNROLL for (int v = 0; v < vectors; v++) sum[r][v] = fma(x, weight[v], sum[r][v]);
    }
  }
  SL_UNROLL for (int r = 0; r < rows; r++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec before = load(sums.from + r * sums.from_stride + v * kLanes);
      store(sums.to + r * sums.to_stride + v * kLanes, before + sum[r][v]);
    }
  }
}

}  // namespace
}  // namespace sightline
