// Memory that will be needed soon, asked for a few cache lines at a time while products are computed.
//
// A block of queries meets rows that no block before it has touched: its own context, the next block's
// queries and, under a causal mask, 64 more keys and values. Left to the loads themselves, causal attention
// over 1,024 tokens took 4 % longer.
#pragma once

#include "per_level/vectors/simd.h"

namespace sightline {
namespace {

// A processor has few lines on their way to a core at once, and products wait for those that they need
// themselves: lines are asked for a few at a time, all through a tile where it is long. In one burst for each
// tile, with a dense bias all took 6 % longer.
constexpr int kStepLines = kLanes == 16 ? 6 : 16;
constexpr int kStepWords = kLanes == 16 ? 16 : 1 << 20;
constexpr int kPanelSteps = 12;  // between products that are panels of registers (products/amx.h)

class Ahead {
 public:
  // `rows` rows of `bytes` bytes each, `stride` bytes apart; none where `rows` is not above 0.
  void add(const void* data, int64_t stride, int64_t rows, int64_t bytes) {
    if (rows <= 0 || bytes <= 0 || added_ - done_ >= kMaxParts) return;
    if (stride == bytes) bytes *= rows, rows = 1;
    parts_[added_++ % kMaxParts] = {static_cast<const char*>(data), stride, rows, bytes};
  }

  // Asks for the next few lines of a row, or as many as it has left.
  SL_INLINE void step() {
    if (at_ >= end_ && !next_row()) return;
    SL_UNROLL for (int line = 0; line < kStepLines; line++) {
      const char* at = at_ + line * kLineBytes;
      if (line == 0 || at < end_) __builtin_prefetch(at, 0, 2);
    }
    at_ += kStepLines * kLineBytes;
  }
  SL_INLINE void steps(int count) {
    for (int i = 0; i < count; i++) step();
  }

 private:
  static constexpr int kMaxParts = 8, kLineBytes = 64;
  struct Part {
    const char* data;
    int64_t stride, rows, bytes;
  };

  SL_INLINE bool next_row() {
    if (rows_left_ > 0) {
      rows_left_--;
      end_ += stride_;
      at_ = end_ - bytes_;
      return true;
    }
    if (done_ == added_) return false;
    const Part& part = parts_[done_++ % kMaxParts];
    rows_left_ = part.rows - 1, stride_ = part.stride, bytes_ = part.bytes;
    at_ = part.data, end_ = at_ + bytes_;
    return true;
  }

  Part parts_[kMaxParts];  // those from done_ to added_ are there: clearing all shows in a short block
  unsigned added_ = 0, done_ = 0;
  const char *at_ = nullptr, *end_ = nullptr;  // what is left of a row
  int64_t rows_left_ = 0, stride_ = 0, bytes_ = 0;
};

}  // namespace
}  // namespace sightline
