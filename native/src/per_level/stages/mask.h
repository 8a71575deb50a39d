// masked: what ranges and the dense mask hide of one patch of S^T becomes -infinity.
#pragma once

#include "per_level/products/transpose.h"
#include "per_level/stages/terms.h"

namespace sightline {
namespace {

// Fetches a patch of the dense mask as [key][row]; rows past the last query are hidden.
// Returns whether anything is visible.
inline bool fetch_visible(const Plane<uint8_t>& plane, const Patch& patch, const Place& place, uint8_t* to) {
  const uint8_t* from = plane.data + place.row * plane.row_stride + place.key * plane.key_stride;
  const int lanes = patch.vectors * kLanes;
  for (int k = 0; k < patch.keys; k++) memset(to + k * kSlabRows, 0, lanes);
  if (plane.row_stride == 0) {
    for (int k = 0; k < patch.keys; k++) memset(to + k * kSlabRows, from[k * plane.key_stride], place.rows);
  } else if (plane.key_stride == 1) {
    for (int r = 0; r < place.rows; r += 16) {
      for (int k = 0; k < patch.keys; k += 16) {
        transpose_bytes_tile(from + r * plane.row_stride + k, plane.row_stride, place.rows - r,
                             smaller(16, patch.keys - k), to + k * kSlabRows + r, kSlabRows);
      }
    }
  } else {
    for (int k = 0; k < patch.keys; k++) {
      for (int r = 0; r < place.rows; r++) {
        to[k * kSlabRows + r] = from[r * plane.row_stride + k * plane.key_stride];
      }
    }
  }
  uint8_t seen = 0;
  for (int k = 0; k < patch.keys; k++) {
    for (int r = 0; r < lanes; r++) seen |= to[k * kSlabRows + r];
  }
  return seen != 0;
}

inline void mask_visible(const uint8_t* visible, const Patch& patch, float* scores) {
  for_vectors(patch, scores, [&](int k, int v, Vec s) {
    return select(nonzero_bytes(visible + k * kSlabRows + v * kLanes), s, splat(-kInfinity));
  });
}

// Lanes in which a key lies in [lo, hi).
SL_INLINE Mask inside(IntVec key, IntVec lo, IntVec hi) {
  return both(greater_int(hi, key), greater_int(key + splat_int(1), lo));
}

inline void mask_ranges(const Ranges& ranges, const Patch& patch, const Place& place, float* scores) {
  for (int v = 0; v < patch.vectors; v++) {
    const int row = place.row + v * kLanes;
    const Span keys = {place.key, place.key + patch.keys};
    if (seen_in_ranges(ranges, row / kLanes, keys) == Seen::kAll) continue;
    for (int k = 0; k < patch.keys; k++) {
      const IntVec key = splat_int((int32_t)(place.key + k));
      Mask seen = greater_int(IntVec{}, IntVec{});
      for (int64_t slot = 0; slot < ranges.slots; slot++) {
        const IntVec lo = load_int(ranges.lo + slot * kBlockRows + row);
        const IntVec hi = load_int(ranges.hi + slot * kBlockRows + row);
        seen = either(seen, inside(key, lo, hi));
      }
      float* s = scores + k * kSlabRows + v * kLanes;
      store(s, select(seen, load(s), splat(-kInfinity)));
    }
  }
}

}  // namespace
}  // namespace sightline
