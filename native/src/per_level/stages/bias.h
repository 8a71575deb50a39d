// biased: ALiBi slopes, relative tables and the dense bias, added to one patch of S^T.
#pragma once

#include <type_traits>

#include "per_level/memory/ahead.h"
#include "per_level/products/transpose.h"
#include "per_level/stages/terms.h"

namespace sightline {
namespace {

// Slopes and tables depend on j - i only: their values form a strip in which the lanes of one key (rows i,
// i + 1, ...) are neighbours. strip[u] belongs to j - i = newest - u. Returns whether one of them hides.
inline bool make_strip(const Block& block, const Terms& terms, const Place& place, int length, int64_t newest,
                       float* strip) {
  const int64_t d0 = newest - (block.first + place.row) - terms.offset + place.key;
  for (int u = 0; u < length; u++) {
    const int64_t d = d0 - u;
    strip[u] = -terms.slope * (float)(d < 0 ? -d : d);
  }
  for (int u = 0; terms.table && u < length; u++) {
    const int64_t d = larger(-terms.radius, smaller(terms.radius, d0 - u));
    strip[u] += to_log2(terms.table[d + terms.radius]);
  }
  bool hides = false;
  for (int u = 0; u < length; u++) hides |= strip[u] == -kInfinity;
  return hides;
}

// s + bias, where a bias of -infinity hides even NaN.
SL_INLINE Vec plus_or_hidden(Vec s, Vec bias) {
  return select(equal(bias, splat(-kInfinity)), bias, s + bias);
}

inline void add_positions(const Block& block, const Terms& terms, const Patch& patch, const Place& place,
                          float* strip, float* scores) {
  const int last = patch.keys - 1;
  if (make_strip(block, terms, place, patch.keys + patch.vectors * kLanes, last, strip)) {
    return for_vectors(patch, scores, [&](int k, int v, Vec s) {
      return plus_or_hidden(s, load(strip + (last - k) + v * kLanes));
    });
  }
  for_vectors(patch, scores, [&](int k, int v, Vec s) { return s + load(strip + (last - k) + v * kLanes); });
}

// s + bias in units of log 2. Changing units must not turn a large finite bias (torch.finfo.min, a common way
// to hide) into -infinity. It is rounded before s is added: one bias of -1e9 moves all scores of a row alike.
SL_INLINE Vec plus_bias(Vec s, Vec bias) {
  const Vec sum = s + max_of(splat(-kFloatMax), bias * splat(kLog2e));
  return select(equal(bias, splat(-kInfinity)), bias, sum);
}

// One tile of a bias with contiguous rows: turned in registers, and added to S^T at once.
template <class Element>
SL_INLINE void add_bias_tile(const Element* from, int64_t row_stride, int rows, int keys, float* scores) {
  Vec tile[kLanes];
  SL_UNROLL for (int r = 0; r < kLanes; r++) {
    const Element* row = from + r * row_stride;
    tile[r] = r >= rows ? Vec{} : keys == kLanes ? load(row) : load_part(row, keys);
  }
  transpose(tile);
  const auto add = [&](int k) {
    store(scores + k * kSlabRows, plus_bias(load(scores + k * kSlabRows), tile[k]));
  };
  if (keys == kLanes) {
    SL_UNROLL for (int k = 0; k < kLanes; k++) add(k);
  } else {
    for (int k = 0; k < keys; k++) add(k);
  }
}

// A whole one. Units change before it is turned: shuffles keep that product apart from the sum, and whether
// some entry needs more care is asked once.
template <class Element>
SL_INLINE void add_whole_tile(const Element* from, int64_t row_stride, float* scores) {
  Vec tile[kLanes], lowest = {};
  SL_UNROLL for (int r = 0; r < kLanes; r++) {
    tile[r] = load(from + r * row_stride) * splat(kLog2e);
    lowest = min_of(tile[r], lowest);
  }
  if (any(equal(lowest, splat(-kInfinity)))) return add_bias_tile(from, row_stride, kLanes, kLanes, scores);
  transpose(tile);
  SL_UNROLL for (int k = 0; k < kLanes; k++) {
    store(scores + k * kSlabRows, load(scores + k * kSlabRows) + tile[k]);
  }
}

// The same of bfloat16, for twice as many keys: they are turned two in a word, at half the shuffles, and then
// told apart. That the largest numbers stay finite also keeps their product apart from the sum.
SL_INLINE void add_whole_tile(const Bfloat16* from, int64_t row_stride, float* scores) {
  const IntVec high = splat_int((int32_t)0xffff0000);
  Vec tile[kLanes], lowest = {};
  SL_UNROLL for (int r = 0; r < kLanes; r++) {
    memcpy(&tile[r], from + r * row_stride, sizeof tile[r]);
    const IntVec words = (IntVec)tile[r];
    lowest = min_of(min_of((Vec)(words & high), (Vec)(words << 16)), lowest);
  }
  if (any(equal(lowest, splat(-kInfinity)))) {
    add_bias_tile(from, row_stride, kLanes, kLanes, scores);
    return add_bias_tile(from + kLanes, row_stride, kLanes, kLanes, scores + kLanes * kSlabRows);
  }
  transpose(tile);
  const auto add = [](float* to, Vec bias) {
    store(to, load(to) + max_of(splat(-kFloatMax), bias * splat(kLog2e)));
  };
  SL_UNROLL for (int k = 0; k < kLanes; k++) {
    const IntVec words = (IntVec)tile[k];
    add(scores + 2 * k * kSlabRows, (Vec)(words << 16));
    add(scores + (2 * k + 1) * kSlabRows, (Vec)(words & high));
  }
}

// Asks, while a chunk's products are computed, for what the bias holds of the next one: of the same rows, or
// of the next block's. Its rows are far apart, and too many for the hardware to follow; asked for where they
// are added, a twentieth of a float32 call was spent waiting.
inline void add_bias_ahead(Ahead& ahead, const Block& block, Span chunk) {
  const sightline_problem& p = *block.problem;
  if (!p.bias || p.bias_stride[3] != 1 || p.bias_stride[2] == 0) return;
  const bool same_rows = chunk.end < block.keys;
  const int64_t key = same_rows ? chunk.end : 0, row = block.first + (same_rows ? 0 : kBlockRows);
  const int64_t rows = smaller<int64_t>(kBlockRows, p.queries - row);
  const int64_t keys = smaller(chunk.end - chunk.begin, block.keys - key);
  const int64_t size = element_bytes(p.bias_dtype);
  const int64_t from = block.b * p.bias_stride[0] + block.h * p.bias_stride[1] + row * p.bias_stride[2] + key;
  ahead.add(static_cast<const char*>(p.bias) + size * from, size * p.bias_stride[2], rows, size * keys);
}

// A bias with contiguous rows.
template <class Element>
void add_rows(const Element* from, int64_t row_stride, const Patch& patch, const Place& place,
              float* scores) {
  constexpr int whole = std::is_same<Element, Bfloat16>::value ? 2 * kLanes : kLanes;  // keys of a tile
  for (int v = 0; v < patch.vectors; v++, from += kLanes * row_stride, scores += kLanes) {
    const int rows = smaller(kLanes, place.rows - v * kLanes);
    int k = 0;
    for (; rows == kLanes && k + whole <= patch.keys; k += whole) {
      add_whole_tile(from + k, row_stride, scores + k * kSlabRows);
    }
    for (; k < patch.keys; k += kLanes) {
      add_bias_tile(from + k, row_stride, rows, smaller(kLanes, patch.keys - k), scores + k * kSlabRows);
    }
  }
}

template <class Element>
void add_plane(const Plane<Element>& plane, const Patch& patch, const Place& place, float* scores) {
  const Element* from = plane.data + place.row * plane.row_stride + place.key * plane.key_stride;
  if (plane.row_stride == 0) {
    return for_vectors(patch, scores, [&](int k, int, Vec s) {
      return plus_bias(s, splat(to_float(from + k * plane.key_stride)));
    });
  }
  if (plane.key_stride == 1) return add_rows(from, plane.row_stride, patch, place, scores);
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

inline void add_bias(const Block& block, const Patch& patch, const Place& place, float* scores) {
  const sightline_problem& p = *block.problem;
  with_element(p.bias_dtype, [&](auto element) {
    add_plane(plane_of<decltype(element)>(block, p.bias, p.bias_stride), patch, place, scores);
  });
}

}  // namespace
}  // namespace sightline
