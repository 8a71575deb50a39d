// What happens to a patch of S^T between the product and the softmax:
//
//   scaled -> capped -> biased -> masked
//
// Logits are kept in units of log 2 (x * log2 e), which the softmax's 2^x wants; the query is packed with
// the factor that gets there. Each stage is a pass of its own over a patch that lies in L1, and runs only
// where the problem has it.
#pragma once

#include "functions.h"
#include "pack.h"
#include "ranges.h"

namespace sightline {
namespace {

template <class T>
struct Plane {  // one head's part of a [B, H, N, M] array, from the block's first query on
  const T* data;
  int64_t row_stride, key_stride;
};

template <class T>
SL_INLINE Plane<T> plane_of(const Block& block, const void* data, const int64_t (&stride)[4]) {
  if (!data) return {nullptr, 0, 0};
  return {static_cast<const T*>(data) + block.b * stride[0] + block.h * stride[1] + block.first * stride[2],
          stride[2], stride[3]};
}

struct Terms {
  float query_factor;  // what makes scores of the bare product: scaled, or divided by the cap
  float cap;           // 0: none; in units of log 2
  bool positions;      // slopes or a table
  float slope;         // in units of log 2
  const float* table;
  int64_t radius, offset;
  Plane<uint8_t> visible;
  bool any;
};

inline Terms make_terms(const Block& block) {
  const sightline_problem& p = *block.problem;
  Terms terms = {};
  const bool capped = p.softcap > 0;
  terms.query_factor = capped ? p.scale / p.softcap : (float)((double)p.scale * 1.4426950408889634);
  terms.cap = capped ? p.softcap * kLog2e : 0.0f;
  if (p.slopes) terms.slope = p.slopes[block.b * p.slope_stride[0] + block.h * p.slope_stride[1]] * kLog2e;
  if (p.table) terms.table = p.table + block.h * p.table_stride;
  terms.positions = p.slopes || p.table;
  terms.radius = p.radius;
  terms.offset = p.offset ? p.offset[block.b * p.offset_stride] : 0;
  terms.visible = plane_of<uint8_t>(block, p.visible, p.visible_stride);
  terms.any = capped || terms.positions || p.bias || (p.visible && !p.visible_map);
  return terms;
}

struct StageScratch {
  float* strip;      // bias by distance
  uint8_t* visible;  // [key][slab row]
};

inline StageScratch take_stages(const sightline_problem& p, Scratch& scratch) {
  StageScratch stages = {};
  if (p.slopes || p.table) stages.strip = scratch.take<float>(kMaxChunkKeys + kSlabRows + kLanes);
  if (p.visible) stages.visible = scratch.take<uint8_t>(kMaxChunkKeys * kSlabRows + 16);
  return stages;
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

// --- capped ---

inline void cap_scores(const Terms& terms, const Patch& patch, float* scores) {
  const Vec cap = splat(terms.cap);
  for_vectors(patch, scores, [&](int, int, Vec s) { return cap * tanh(s); });
}

// --- biased ---

// Slopes and tables depend on j - i only: their values form a strip in which the lanes of one key (rows i,
// i + 1, ...) are neighbours. strip[u] belongs to j - i = newest - u.
inline void make_strip(const Block& block, const Terms& terms, const Place& place, int length, int64_t newest,
                       float* strip) {
  const int64_t d0 = newest - (block.first + place.row) - terms.offset + place.key;
  for (int u = 0; u < length; u++) {
    const int64_t d = d0 - u;
    strip[u] = -terms.slope * (float)(d < 0 ? -d : d);
  }
  if (!terms.table) return;
  for (int u = 0; u < length; u++) {
    const int64_t d = larger(-terms.radius, smaller(terms.radius, d0 - u));
    strip[u] += terms.table[d + terms.radius] * kLog2e;
  }
}

inline void add_positions(const Block& block, const Terms& terms, const Patch& patch, const Place& place,
                          float* strip, float* scores) {
  const int last = patch.keys - 1;
  make_strip(block, terms, place, patch.keys + patch.vectors * kLanes, last, strip);
  for_vectors(patch, scores, [&](int k, int v, Vec s) { return s + load(strip + (last - k) + v * kLanes); });
}

// Changing units must not turn a large finite bias (torch.finfo.min, a common way to hide) into -infinity.
SL_INLINE Vec bias_to_log2(Vec bias) {
  const Vec product = max_of(splat(-kFloatMax), bias * splat(kLog2e));
  return select(equal(bias, splat(-kInfinity)), bias, product);
}

// s + bias_to_log2(bias), with an operation or two less.
SL_INLINE Vec plus_bias(Vec s, Vec bias) {
  const Vec sum = max_of(splat(-kFloatMax), fma(bias, splat(kLog2e), s));
  return select(equal(bias, splat(-kInfinity)), bias, sum);
}

// One tile of a bias with contiguous rows: turned in registers, and added to S^T at once.
template <class Element>
SL_INLINE void add_bias_tile(const Element* from, int64_t row_stride, int rows, int keys, float* scores) {
  Vec tile[kLanes];
  SL_UNROLL for (int r = 0; r < kLanes; r++) {
    const Element* row = from + r * row_stride;
    tile[r] = r >= rows ? Vec{} : keys == kLanes ? load(row) : load_part(row, keys);
    // What the row holds for the next chunk: the rows are far apart and too many for the hardware to follow.
    // Without asking ahead a bias costs half as much again.
    if (r < rows) __builtin_prefetch(row + kChunkKeys, 0, 2);
  }
  transpose(tile);
  if (keys == kLanes) {
    SL_UNROLL for (int k = 0; k < kLanes; k++) {
      store(scores + k * kSlabRows, plus_bias(load(scores + k * kSlabRows), tile[k]));
    }
  } else {
    for (int k = 0; k < keys; k++) {
      store(scores + k * kSlabRows, plus_bias(load(scores + k * kSlabRows), tile[k]));
    }
  }
}

template <class Element>
void add_bias(const Plane<Element>& plane, const Patch& patch, const Place& place, float* scores) {
  const Element* from = plane.data + place.row * plane.row_stride + place.key * plane.key_stride;
  if (plane.row_stride == 0) {
    for_vectors(patch, scores, [&](int k, int, Vec s) {
      return s + bias_to_log2(splat(to_float(from + k * plane.key_stride)));
    });
    return;
  }
  if (plane.key_stride == 1) {
    for (int v = 0; v < patch.vectors; v++) {
      for (int k = 0; k < patch.keys; k += kLanes) {
        add_bias_tile(from + v * kLanes * plane.row_stride + k, plane.row_stride,
                      smaller(kLanes, place.rows - v * kLanes), smaller(kLanes, patch.keys - k),
                      scores + k * kSlabRows + v * kLanes);
      }
    }
    return;
  }
  float row[kSlabRows] = {};
  for (int k = 0; k < patch.keys; k++) {
    for (int r = 0; r < place.rows; r++)
      row[r] = to_float(from + r * plane.row_stride + k * plane.key_stride);
    for (int v = 0; v < patch.vectors; v++) {
      float* s = scores + k * kSlabRows + v * kLanes;
      store(s, plus_bias(load(s), load(row + v * kLanes)));
    }
  }
}

// --- masked ---

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
        seen = either(seen, both(greater_int(hi, key), greater_int(key + splat_int(1), lo)));
      }
      float* s = scores + k * kSlabRows + v * kLanes;
      store(s, select(seen, load(s), splat(-kInfinity)));
    }
  }
}

inline void raise_highest(const Patch& patch, const float* scores, Vec* highest) {
  for (int k = 0; k < patch.keys; k++) {
    for (int v = 0; v < patch.vectors; v++) {
      highest[v] = max_of(highest[v], load(scores + k * kSlabRows + v * kLanes));
    }
  }
}

// All stages of one patch, in order; `highest` is raised to what they leave.
inline void apply_stages(const Block& block, const Terms& terms, const Ranges& ranges, const Patch& patch,
                         const Place& place, const StageScratch& scratch, float* scores,
                         const uint8_t* visible, Vec* highest) {
  if (terms.cap != 0) cap_scores(terms, patch, scores);
  if (terms.positions) add_positions(block, terms, patch, place, scratch.strip, scores);
  if (block.problem->bias) {
    with_element(block.problem->bias_dtype, [&](auto element) {
      typedef decltype(element) Element;
      const auto plane = plane_of<Element>(block, block.problem->bias, block.problem->bias_stride);
      add_bias(plane, patch, place, scores);
    });
  }
  if (visible) mask_visible(visible, patch, scores);
  if (patch.edge && !ranges.everything) mask_ranges(ranges, patch, place, scores);
  raise_highest(patch, scores, highest);
}

}  // namespace
}  // namespace sightline
