// Which keys the rows of a decode look at: the next chunk, and whether the dense mask hides all of it.
#pragma once

#include "per_level/decode/row.h"
#include "shared/zones.h"

namespace sightline {
namespace {

// The next chunk at or after `from` in which some row sees something; empty at the end.
inline Span next_chunk(const sightline_problem& p, const DecodeRow* rows, int count, int64_t from,
                       int64_t end) {
  if (!p.ranges) return {from, smaller(end, from + kDecodeKeys)};
  int64_t begin = end, last = 0;
  for (int r = 0; r < count; r++) {
    for (int64_t slot = 0; slot < p.range_count; slot++) {
      const int64_t lo = larger<int64_t>(from, rows[r].ranges[2 * slot]), hi = rows[r].ranges[2 * slot + 1];
      if (lo < hi && lo < begin) begin = lo;
    }
  }
  for (int r = 0; r < count; r++) {
    for (int64_t slot = 0; slot < p.range_count; slot++) {
      const int64_t lo = rows[r].ranges[2 * slot], hi = rows[r].ranges[2 * slot + 1];
      if (lo < begin + kDecodeKeys && hi > begin && hi > last) last = hi;
    }
  }
  return {begin, smaller(smaller(end, last), begin + kDecodeKeys)};
}

// Whether the dense mask hides the whole chunk from every row.
inline bool all_hidden(const sightline_problem& p, const DecodeRow* rows, int count, Span keys,
                       const Zones* zones) {
  const Zone zone(zones, SIGHTLINE_STAGE_MASKED);
  const int64_t stride = p.visible_stride[3];
  for (int r = 0; r < count; r++) {
    if (r > 0 && rows[r].visible == rows[r - 1].visible) continue;
    uint8_t seen = 0;
    for (int64_t j = keys.begin; j < keys.end; j++) seen |= rows[r].visible[j * stride];
    if (seen) return false;
  }
  return true;
}

}  // namespace
}  // namespace sightline
