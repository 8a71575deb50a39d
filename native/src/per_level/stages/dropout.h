// The dropout pattern: entry (b, h, i, j) is kept or dropped by a hash of (seed, b, h, i, j) alone, the one
// of the Python side's dropout.py, so that every backend, block and thread draws the same.
//
//   stream = mix(seed + (row + 1) * gamma),  row = (b * H + h) * N + i
//   kept   = mix(stream + (j + 1) * gamma) >> 40 < keep_threshold
//
// Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
#pragma once

#include "per_level/blocks/patches.h"

namespace sightline {
namespace {

constexpr uint64_t kGamma = 0x9E3779B97F4A7C15u;

typedef uint64_t LongVec __attribute__((vector_size(4 * kLanes)));  // half as many lanes
typedef uint32_t WordVec __attribute__((vector_size(4 * kLanes)));

struct Dropout {
  bool any;
  IntVec threshold;
  Vec scale;
  uint64_t* streams;  // [kBlockRows]
};

inline uint64_t* take_streams(const sightline_problem& p, Scratch& scratch) {
  return p.keep_scale != 0 ? scratch.take<uint64_t>(kBlockRows) : nullptr;
}

// The top 32 bits are final: the last shift of the whole function reaches only those below.
template <class Bits>
SL_INLINE Bits mix_top(Bits z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  return (z ^ (z >> 27)) * 0x94D049BB133111EBu;
}

inline void start_streams(const Block& block, uint64_t* streams) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_WEIGHTS);
  for (int row = 0; row < kBlockRows; row++) {
    const uint64_t z = mix_top(block.problem->seed + ((uint64_t)block.out_row() + row + 1) * kGamma);
    streams[row] = z ^ (z >> 31);
  }
}

inline Dropout make_dropout(const Block& block, uint64_t* streams) {
  const sightline_problem& p = *block.problem;
  const bool any = p.keep_scale != 0;
  if (any) start_streams(block, streams);
  return {any, splat_int((int32_t)p.keep_threshold), splat(p.keep_scale), streams};
}

#if defined(__AVX512F__)
#define SL_ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#elif defined(__AVX2__)
#define SL_ODD_LANES 1, 3, 5, 7, 9, 11, 13, 15
#else
#define SL_ODD_LANES 1, 3, 5, 7
#endif

// What a vector of rows, the first of them `row` within the block, multiplies its weights of one key with:
// keep_scale or 0.
SL_INLINE Vec kept(const Dropout& dropout, int row, int64_t key) {
  LongVec streams[2];
  memcpy(streams, dropout.streams + row, sizeof streams);
  const uint64_t step = ((uint64_t)key + 1) * kGamma;
  const IntVec low = (IntVec)mix_top(streams[0] + step), high = (IntVec)mix_top(streams[1] + step);
  const WordVec top = (WordVec)SL_SHUFFLE(IntVec, low, high, SL_ODD_LANES);
  return select(greater_int(dropout.threshold, (IntVec)(top >> 8)), dropout.scale, Vec{});
}

// What becomes of a patch's weights, as a template argument: body(keep), with keep(weight, key, vector),
// which is keep.factor(key, vector) * weight.
struct KeepAll {
  struct One {  // times which everything is what it was
    SL_INLINE Vec operator*(Vec x) const { return x; }
  };
  SL_INLINE One factor(int, int) const { return {}; }
  SL_INLINE Vec operator()(Vec weight, int, int) const { return weight; }
};
struct KeepSome {
  const Dropout& dropout;
  const Place& place;
  SL_INLINE Vec factor(int k, int v) const { return kept(dropout, place.row + v * kLanes, place.key + k); }
  SL_INLINE Vec operator()(Vec weight, int k, int v) const { return factor(k, v) * weight; }
};

template <class Body>
SL_INLINE void with_keep(const Dropout& dropout, const Place& place, const Body& body) {
  if (dropout.any) return body(KeepSome{dropout, place});
  body(KeepAll());
}

}  // namespace
}  // namespace sightline
