// Looking a dense mask through, once for all heads and entries that share it.
#pragma once

#include <cstdlib>
#include <cstring>

#include "once/runtime/call.h"
#include "once/runtime/threads.h"
#include "shared/mask_map.h"

namespace sightline {

class MaskMap {
 public:
  // Does nothing for a problem without a dense mask.
  MaskMap(const Call& call, const sightline_problem& p) : problem_(p) {
    problem_.visible_map = nullptr;
    if (!p.visible || p.keys == 0) return;
    const int64_t tiles = (p.keys + kMapKeys - 1) / kMapKeys;
    blocks_ = p.visible_stride[2] == 0 ? 1 : (p.queries + kMapQueries - 1) / kMapQueries;
    heads_ = p.visible_stride[1] == 0 ? 1 : p.heads;
    const int64_t entries = p.visible_stride[0] == 0 ? 1 : p.batch, items = entries * heads_ * blocks_;
    memory_ = static_cast<uint8_t*>(std::malloc(items * tiles));
    if (!memory_) {
      failed_ = true;
      return;
    }
    const int64_t useful = 1 + items * (blocks_ == 1 ? 1 : kMapQueries) * p.keys / kBytesPerWorker;
    const int64_t workers = useful < call.threads ? useful : call.threads;
    parallel_for((int)(workers < items ? workers : items), items, [&](int worker, int64_t item) {
      const Zone zone(call.zones(worker), SIGHTLINE_STAGE_MASKED);
      look_through(item, memory_ + item * tiles);
    });
    problem_.visible_map = memory_;
    problem_.visible_map_stride[0] = entries > 1 ? heads_ * blocks_ * tiles : 0;
    problem_.visible_map_stride[1] = heads_ > 1 ? blocks_ * tiles : 0;
    problem_.visible_map_stride[2] = blocks_ > 1 ? tiles : 0;
  }
  ~MaskMap() { std::free(memory_); }
  MaskMap(const MaskMap&) = delete;
  MaskMap& operator=(const MaskMap&) = delete;

  bool ok() const { return !failed_; }
  const sightline_problem& problem() const { return problem_; }  // with its map

 private:
  typedef uint8_t Bytes __attribute__((vector_size(kMapKeys)));

  // Bytes to look at that are worth waking a thread.
  static constexpr int64_t kBytesPerWorker = 4 << 20;

  void look_through(int64_t item, uint8_t* map) const {
    const sightline_problem& p = problem_;
    const int64_t b = item / blocks_ / heads_, h = item / blocks_ % heads_,
                  first = item % blocks_ * kMapQueries;
    const uint8_t* mask =
        p.visible + b * p.visible_stride[0] + h * p.visible_stride[1] + first * p.visible_stride[2];
    const bool one_row = p.visible_stride[2] == 0;
    const int64_t rows = one_row ? 1 : p.queries - first < kMapQueries ? p.queries - first : kMapQueries;
    for (int64_t key = 0; key < p.keys; key += kMapKeys) {
      uint8_t tile = 0;
      for (int64_t row = 0; row < rows; row += kMapQuarter) {
        const int64_t count = rows - row < kMapQuarter ? rows - row : kMapQuarter;
        tile |= (uint8_t)(quarter(mask + row * p.visible_stride[2], count, key) << row / kMapQuarter);
      }
      // One row stands for all.
      if (one_row) tile = (uint8_t)((tile & kMapSome ? kMapSome : 0) | (tile & kMapAll ? kMapAll : 0));
      map[key / kMapKeys] = tile;
    }
  }

  // Bit 0: something is visible; bit 4: everything is.
  uint8_t quarter(const uint8_t* mask, int64_t rows, int64_t key) const {
    const int64_t row_stride = problem_.visible_stride[2], key_stride = problem_.visible_stride[3];
    const int64_t keys = problem_.keys - key < kMapKeys ? problem_.keys - key : kMapKeys;
    if (key_stride != 1 || keys < kMapKeys) return quarter_by_bytes(mask + key * key_stride, rows, keys);
    Bytes seen = {}, hidden = {};
    for (int64_t row = 0; row < rows; row++) {
      Bytes bytes;
      memcpy(&bytes, mask + row * row_stride + key, sizeof bytes);
      seen |= bytes;
      hidden |= (Bytes)(bytes == 0);
    }
    return (uint8_t)(any(seen) | !any(hidden) << 4);
  }

  uint8_t quarter_by_bytes(const uint8_t* mask, int64_t rows, int64_t keys) const {
    bool some = false, all = true;
    for (int64_t row = 0; row < rows; row++) {
      for (int64_t key = 0; key < keys; key++) {
        const bool seen = mask[row * problem_.visible_stride[2] + key * problem_.visible_stride[3]] != 0;
        some |= seen, all &= seen;
      }
    }
    return (uint8_t)(some | all << 4);
  }

  static bool any(Bytes bytes) {
    uint64_t halves[2];
    memcpy(halves, &bytes, sizeof halves);
    return (halves[0] | halves[1]) != 0;
  }

  sightline_problem problem_;
  int64_t blocks_ = 0, heads_ = 0;
  uint8_t* memory_ = nullptr;
  bool failed_ = false;
};

}  // namespace sightline
