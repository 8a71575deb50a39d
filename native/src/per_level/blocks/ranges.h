// Which keys a block of queries may see.
//
// A row's visible keys are a few ranges [lo, hi). The keys of a block are walked in segments (where any row
// sees anything), and segments in chunks.
#pragma once

#include "per_level/blocks/block.h"
#include "per_level/blocks/mask_map.h"
#include "per_level/memory/scratch.h"
#include "per_level/products/words.h"

namespace sightline {
namespace {

constexpr int kMaxChunkKeys = kMostChunkKeys + kMostChunkKeys / 2;
constexpr int kLeastPatchKeys = 16, kMostPatchKeys = 32;
static_assert(kMaxChunkKeys % kMostPatchKeys == 0, "chunk_keys() rounds up to whole patches");

// The ranges of several rows: some row sees keys in [min_lo, max_hi); all rows see all of [max_lo, min_hi).
struct Hull {
  int32_t min_lo = INT32_MAX, max_lo = 0, min_hi = INT32_MAX, max_hi = 0;

  void add(int32_t lo, int32_t hi) {
    if (lo >= hi) {
      max_lo = INT32_MAX;  // a row that sees nothing: the common part is empty
      return;
    }
    min_lo = smaller(min_lo, lo), max_lo = larger(max_lo, lo);
    min_hi = smaller(min_hi, hi), max_hi = larger(max_hi, hi);
  }
  void add(const Hull& other) {
    min_lo = smaller(min_lo, other.min_lo), max_lo = larger(max_lo, other.max_lo);
    min_hi = smaller(min_hi, other.min_hi), max_hi = larger(max_hi, other.max_hi);
  }
  bool touches(Span keys) const { return keys.begin < max_hi && min_lo < keys.end; }
  bool covers(Span keys) const { return max_lo <= keys.begin && keys.end <= min_hi; }
};

struct Ranges {
  int64_t slots = 0;  // ranges per row
  int64_t keys = 0;
  bool everything = true;        // no ranges: every key may be seen
  int chunk_keys;                // of a chunk, about
  int patch_keys;                // of a patch that an edge crosses
  int first_keys;                // segments begin at a multiple of so many
  int32_t* lo = nullptr;         // [slots][kBlockRows]
  int32_t* hi = nullptr;         // [slots][kBlockRows]
  Hull* vectors = nullptr;       // [slots][kBlockVectors]
  Hull* whole = nullptr;         // [slots]
  const uint8_t* map = nullptr;  // of the dense mask, if there is one: holds besides the ranges
};

template <class Products>
Ranges take_ranges(const sightline_problem& p, Scratch& scratch) {
  static_assert(kLeastPatchKeys <= Products::kPatchKeys && Products::kPatchKeys <= kMostPatchKeys, "");
  Ranges ranges;
  ranges.keys = p.keys;
  ranges.chunk_keys = Products::kChunkKeys, ranges.patch_keys = Products::kPatchKeys;
  ranges.first_keys = Products::kFirstKeys;
  if (!p.ranges) return ranges;
  ranges.everything = false;
  ranges.slots = p.range_count;
  ranges.lo = scratch.take<int32_t>(p.range_count * kBlockRows);
  ranges.hi = scratch.take<int32_t>(p.range_count * kBlockRows);
  ranges.vectors = scratch.take<Hull>(p.range_count * kBlockVectors);
  ranges.whole = scratch.take<Hull>(p.range_count);
  return ranges;
}

// Rows past the last query repeat it, so that they change no hull; vectors without a query are left alone.
inline void read_ranges(const Block& block, Ranges& ranges) {
  const sightline_problem& p = *block.problem;
  const Zone zone(p.ranges ? block.zones : nullptr, SIGHTLINE_STAGE_MASKED);
  ranges.map = map_of(p, block.b, block.h, block.first);
  for (int64_t slot = 0; slot < ranges.slots; slot++) {
    Hull* hulls = ranges.vectors + slot * kBlockVectors;
    ranges.whole[slot] = Hull();
    for (int v = 0; v < kBlockVectors; v++) hulls[v] = Hull();
    for (int row = 0; row < block.vectors() * kLanes; row++) {
      const int64_t i = block.first + smaller(row, block.count - 1);
      const int32_t* range = p.ranges + block.b * p.ranges_stride[0] + block.h * p.ranges_stride[1] +
                             i * p.ranges_stride[2] + 2 * slot;
      ranges.lo[slot * kBlockRows + row] = range[0];
      ranges.hi[slot * kBlockRows + row] = range[1];
      hulls[row / kLanes].add(range[0], range[1]);
    }
    for (int v = 0; v < block.vectors(); v++) ranges.whole[slot].add(hulls[v]);
  }
}

// One past the last key that some row sees.
inline int64_t last_key(const Ranges& ranges) {
  if (ranges.everything) return ranges.keys;
  int64_t last = 0;
  for (int64_t s = 0; s < ranges.slots; s++) last = larger<int64_t>(last, ranges.whole[s].max_hi);
  return last;
}

// The next stretch of keys, at or after `from`, in which some row's ranges lie; empty at the end. It begins
// at a multiple of first_keys, as do chunks and patches: some products take keys by twos, or a register full.
// `from` is such a multiple, or the end of a stretch.
inline Span next_in_ranges(const Ranges& ranges, int64_t from) {
  if (ranges.everything) return {from, ranges.keys};
  Span segment = {INT64_MAX, INT64_MAX};
  for (int64_t s = 0; s < ranges.slots; s++) {
    const Hull& hull = ranges.whole[s];
    const int64_t begin = larger<int64_t>(hull.min_lo, from);
    if (begin < hull.max_hi && begin < segment.begin) segment = {begin, hull.max_hi};
  }
  for (bool grown = true; grown;) {
    grown = false;
    for (int64_t s = 0; s < ranges.slots; s++) {
      const Hull& hull = ranges.whole[s];
      const int64_t begin = hull.min_lo - hull.min_lo % ranges.first_keys;
      if (begin > segment.end || hull.max_hi <= segment.end) continue;
      segment.end = hull.max_hi;
      grown = true;
    }
  }
  // Another segment cannot end in between: it would end where this one begins, and they would be one.
  if (segment.begin < segment.end) segment.begin -= segment.begin % ranges.first_keys;
  return segment;
}

// The next stretch of keys, at or after `from`, in which some row sees something; empty at the end.
inline Span next_segment(const Ranges& ranges, int64_t from) {
  Span segment = next_in_ranges(ranges, from);
  while (ranges.map && segment.begin < segment.end) {
    const Span seen = first_seen(ranges.map, segment, ranges.chunk_keys, ranges.first_keys);
    if (seen.begin < seen.end) return seen;
    segment = next_in_ranges(ranges, segment.end);
  }
  return segment;
}

// Keys per chunk of a segment: chunks of one segment have nearly equal length, so that none is a sliver.
inline int chunk_keys(const Ranges& ranges, Span segment) {
  const int64_t length = segment.end - segment.begin;
  const int64_t chunks = larger<int64_t>(1, (length + ranges.chunk_keys / 2) / ranges.chunk_keys);
  const int64_t keys = (length + chunks - 1) / chunks;
  return (int)((keys + ranges.patch_keys - 1) / ranges.patch_keys * ranges.patch_keys);
}

// Calls body(chunk, last_of_its_segment) for every chunk of keys in which some query sees something.
template <class Body>
SL_INLINE void for_chunks(const Ranges& ranges, const Body& body) {
  for (Span segment = next_segment(ranges, 0); segment.begin < segment.end;
       segment = next_segment(ranges, segment.end)) {
    const int keys = chunk_keys(ranges, segment);
    for (int64_t begin = segment.begin; begin < segment.end; begin += keys) {
      const int64_t end = smaller(segment.end, begin + keys);
      body(Span{begin, end}, end == segment.end);
    }
  }
}

}  // namespace
}  // namespace sightline
