// What the map of a dense mask (shared/mask_map.h) says of runs of keys.
#pragma once

#include "shared/mask_map.h"
#include "sightline.h"

namespace sightline {
namespace {

struct Span {
  int64_t begin, end;
};

// What a vector of queries sees of a run of keys.
enum class Seen { kNothing, kPart, kAll };

// The tiles of one block of queries, or null.
inline const uint8_t* map_of(const sightline_problem& p, int64_t b, int64_t h, int64_t first) {
  if (!p.visible_map) return nullptr;
  return p.visible_map + b * p.visible_map_stride[0] + h * p.visible_map_stride[1] +
         first / kMapQueries * p.visible_map_stride[2];
}

// Of the 16 queries that `row`, counted within the block, belongs to.
inline Seen seen_in_map(const uint8_t* map, int row, Span keys) {
  uint8_t some = 0, all = kMapAll;
  for (int64_t tile = keys.begin / kMapKeys; tile * kMapKeys < keys.end; tile++) {
    some |= map[tile], all &= map[tile];
  }
  const int quarter = row / kMapQuarter;
  if (!(some >> quarter & 1)) return Seen::kNothing;
  return all >> (4 + quarter) & 1 ? Seen::kAll : Seen::kPart;
}

// The first stretch of `keys` in which some query sees something, up to a gap of at least `gap` keys; empty
// where there is none. It begins and ends at multiples of `step`, or where `keys` do.
inline Span first_seen(const uint8_t* map, Span keys, int gap, int step) {
  Span found = {keys.end, keys.end};
  for (int64_t tile = keys.begin / kMapKeys; tile * kMapKeys < keys.end; tile++) {
    const int64_t begin = tile * kMapKeys;
    if (map[tile] & kMapSome) {
      if (found.begin == keys.end) {
        found.begin = begin - begin % step < keys.begin ? keys.begin : begin - begin % step;
      }
      const int64_t end = (begin + kMapKeys + step - 1) / step * step;
      found.end = end < keys.end ? end : keys.end;
    } else if (found.begin < keys.end && begin + kMapKeys - found.end >= gap) {
      break;
    }
  }
  return found;
}

}  // namespace
}  // namespace sightline
