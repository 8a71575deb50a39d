// Which parts of S^T have to be computed for a chunk of keys: patches, each a run of keys by a run of query
// vectors.
//
// A patch that every row sees in full needs no test. Where an edge crosses, patches are 16 or 32 keys wide
// and leave out the vectors that see none of these, so a causal diagonal costs little more than its visible
// half.
#pragma once

#include "per_level/blocks/ranges.h"

namespace sightline {
namespace {

constexpr int kMaxPatches = kMaxChunkKeys / kLeastPatchKeys + 1;

struct Patch {
  int key, keys;        // relative to the chunk
  int vector, vectors;  // relative to the slab
  bool edge;            // some entry is hidden, by a range or by the dense mask
};

inline Seen seen_in_ranges(const Ranges& ranges, int vector, Span keys) {
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

inline Seen seen_by_vector(const Ranges& ranges, int vector, Span keys) {
  const Seen seen = seen_in_ranges(ranges, vector, keys);
  if (!ranges.map || seen == Seen::kNothing) return seen;
  return smaller(seen, seen_in_map(ranges.map, vector * kLanes, keys));
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

// Whether the dense mask hides an entry of a patch.
inline bool masks(const Ranges& ranges, int first, const Patch& patch, int64_t chunk_begin) {
  if (!ranges.map) return true;
  const Span keys = {chunk_begin + patch.key, chunk_begin + patch.key + patch.keys};
  for (int v = patch.vector; patch.edge && v < patch.vector + patch.vectors; v++) {
    if (seen_in_map(ranges.map, (first + v) * kLanes, keys) != Seen::kAll) return true;
  }
  return false;
}

// Splits a chunk into patches; returns how many. `from_end`: patches end where the chunk ends, so that those
// of a segment's last chunk follow its last edge, as those of the first follow its first; not where all have
// to begin at a multiple.
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
  const int step = ranges.patch_keys;
  const int first_keys = from_end && ranges.first_keys < step ? (keys + 1) % step / 2 * 2 : 0;
  int end = smaller(keys, first_keys ? first_keys : step);
  for (int key = 0; key < keys; key = end, end = smaller(keys, end + step)) {
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

// Where a patch lies: absolute key, row within the block.
struct Place {
  int64_t key;
  int row;   // first row, within the block
  int rows;  // real rows
};

SL_INLINE Place place_of(const Block& block, const Patch& patch, int slab, int64_t chunk_begin) {
  const int row = slab * kSlabRows + patch.vector * kLanes;
  return {chunk_begin + patch.key, row, smaller(patch.vectors * kLanes, block.count - row)};
}

// Replaces every vector of a patch: s = body(key, vector, s), both counted within the patch.
template <class Body>
SL_INLINE void for_vectors(const Patch& patch, float* scores, const Body& body) {
  for (int k = 0; k < patch.keys; k++) {
    for (int v = 0; v < patch.vectors; v++) {
      float* s = scores + k * kSlabRows + v * kLanes;
      store(s, body(k, v, load(s)));
    }
  }
}

}  // namespace
}  // namespace sightline
