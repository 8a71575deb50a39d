// Which keys a block of queries may see, and which parts of S^T have to be computed for them.
//
// A row's visible keys are a few ranges [lo, hi). The keys of a block are walked in segments (where any row
// sees anything), segments in chunks, and a chunk is computed in patches: a run of keys by a run of query
// vectors. A patch that every row sees in full needs no test. Where an edge crosses, patches are
// 16 keys wide and leave out the vectors that see none of these, so a causal diagonal costs little more
// than its visible half.
#pragma once

#include "block.h"
#include "scratch.h"

namespace sightline {
namespace {

// A chunk of scores and the rows it multiplies should stay in L1 together.
constexpr int kChunkKeys = kLanes == 16 ? 128 : 64;
constexpr int kMaxChunkKeys = kChunkKeys + kChunkKeys / 2;
constexpr int kPatchKeys = 16;
static_assert(kMaxChunkKeys % kPatchKeys == 0, "chunk_keys() rounds up to whole patches");
constexpr int kMaxPatches = kMaxChunkKeys / kPatchKeys + 1;

struct Span {
  int64_t begin, end;
};

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
  bool everything = true;   // no ranges: every key may be seen
  int32_t* lo = nullptr;    // [slots][kBlockRows]
  int32_t* hi = nullptr;    // [slots][kBlockRows]
  Hull* vectors = nullptr;  // [slots][kBlockVectors]
  Hull* whole = nullptr;    // [slots]
};

inline Ranges take_ranges(const sightline_problem& p, Scratch& scratch) {
  Ranges ranges;
  ranges.keys = p.keys;
  if (!p.ranges) return ranges;
  ranges.everything = false;
  ranges.slots = p.range_count;
  ranges.lo = scratch.take<int32_t>(p.range_count * kBlockRows);
  ranges.hi = scratch.take<int32_t>(p.range_count * kBlockRows);
  ranges.vectors = scratch.take<Hull>(p.range_count * kBlockVectors);
  ranges.whole = scratch.take<Hull>(p.range_count);
  return ranges;
}

// Rows past the last query repeat it, so that they change no hull.
inline void read_ranges(const Block& block, Ranges& ranges) {
  const sightline_problem& p = *block.problem;
  for (int64_t slot = 0; slot < ranges.slots; slot++) {
    Hull* hulls = ranges.vectors + slot * kBlockVectors;
    ranges.whole[slot] = Hull();
    for (int v = 0; v < kBlockVectors; v++) hulls[v] = Hull();
    for (int row = 0; row < kBlockRows; row++) {
      const int64_t i = block.first + smaller(row, block.count - 1);
      const int32_t* range = p.ranges + block.b * p.range_stride[0] + block.h * p.range_stride[1] +
                             i * p.range_stride[2] + 2 * slot;
      ranges.lo[slot * kBlockRows + row] = range[0];
      ranges.hi[slot * kBlockRows + row] = range[1];
      hulls[row / kLanes].add(range[0], range[1]);
    }
    for (int v = 0; v < kBlockVectors; v++) ranges.whole[slot].add(hulls[v]);
  }
}

// One past the last key that some row sees.
inline int64_t last_key(const Ranges& ranges) {
  if (ranges.everything) return ranges.keys;
  int64_t last = 0;
  for (int64_t s = 0; s < ranges.slots; s++) last = larger<int64_t>(last, ranges.whole[s].max_hi);
  return last;
}

// The next stretch of keys, at or after `from`, in which some row sees something; empty at the end. It begins
// at an even key, as do chunks and patches: some products take keys by twos.
inline Span next_segment(const Ranges& ranges, int64_t from) {
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
      if (hull.min_lo > segment.end || hull.max_hi <= segment.end) continue;
      segment.end = hull.max_hi;
      grown = true;
    }
  }
  // Another segment cannot end in between: it would end where this one begins, and they would be one.
  if (segment.begin < segment.end) segment.begin -= segment.begin % 2;
  return segment;
}

// Keys per chunk of a segment: chunks of one segment have nearly equal length, so that none is a sliver.
inline int chunk_keys(Span segment) {
  const int64_t length = segment.end - segment.begin;
  const int64_t chunks = larger<int64_t>(1, (length + kChunkKeys / 2) / kChunkKeys);
  const int64_t keys = (length + chunks - 1) / chunks;
  return (int)((keys + kPatchKeys - 1) / kPatchKeys * kPatchKeys);
}

// --- Patches ---

struct Patch {
  int key, keys;        // relative to the chunk
  int vector, vectors;  // relative to the slab
  bool edge;            // some entry is hidden by a range
};

enum class Seen { kNothing, kPart, kAll };

inline Seen seen_by_vector(const Ranges& ranges, int vector, Span keys) {
  if (ranges.everything) return Seen::kAll;
  Seen seen = Seen::kNothing;
  for (int64_t slot = 0; slot < ranges.slots; slot++) {
    const Hull& hull = ranges.vectors[slot * kBlockVectors + vector];
    if (!hull.touches(keys)) continue;
    if (hull.covers(keys)) return Seen::kAll;
    seen = Seen::kPart;
  }
  return seen;
}

// The part of `keys` that the slab's vectors [first, first + vectors) look at, as one patch.
inline Patch patch_of(const Ranges& ranges, int first, int vectors, Span keys) {
  Patch patch = {0, 0, vectors, 0, false};
  int last = -1;
  for (int v = 0; v < vectors; v++) {
    const Seen seen = seen_by_vector(ranges, first + v, keys);
    if (seen != Seen::kAll) patch.edge = true;
    if (seen == Seen::kNothing) continue;
    patch.vector = smaller(patch.vector, v);
    last = v;
  }
  patch.vectors = larger(0, last + 1 - patch.vector);
  return patch;
}

// Vectors outside a patch hide nothing in it.
inline bool has_edge(const Ranges& ranges, int first, const Patch& patch, Span keys) {
  for (int v = patch.vector; v < patch.vector + patch.vectors; v++) {
    if (seen_by_vector(ranges, first + v, keys) != Seen::kAll) return true;
  }
  return false;
}

// Splits a chunk into patches; returns how many. `from_end`: patches end where the chunk ends, so that those
// of a segment's last chunk follow its last edge, as those of the first follow its first.
inline int make_patches(const Ranges& ranges, int first, int vectors, Span chunk, bool from_end,
                        Patch* patches) {
  const int keys = (int)(chunk.end - chunk.begin);
  Patch whole = patch_of(ranges, first, vectors, chunk);
  if (whole.vectors == 0) return 0;
  if (!whole.edge) {
    whole.keys = keys;
    patches[0] = whole;
    return 1;
  }
  int count = 0;
  const int first_keys = (keys + 1) % kPatchKeys / 2 * 2;
  int end = smaller(keys, from_end && first_keys ? first_keys : kPatchKeys);
  for (int key = 0; key < keys; key = end, end = smaller(keys, end + kPatchKeys)) {
    const Span span = {chunk.begin + key, chunk.begin + end};
    Patch patch = patch_of(ranges, first, vectors, span);
    if (patch.vectors == 0) continue;
    patch.key = key, patch.keys = end - key;
    patch.edge = has_edge(ranges, first, patch, span);
    Patch* before = count ? patches + count - 1 : nullptr;
    if (before && before->key + before->keys == key && before->vector == patch.vector &&
        before->vectors == patch.vectors && before->edge == patch.edge) {
      before->keys += patch.keys;
    } else {
      patches[count++] = patch;
    }
  }
  return count;
}

}  // namespace
}  // namespace sightline
