// The stages of one query row, with vector lanes along the keys.
#pragma once

#include "per_level/decode/row.h"
#include "per_level/stages/bias.h"
#include "per_level/stages/mask.h"
#include "per_level/stages/order.h"

namespace sightline {
namespace {

// --- biased ---

inline void add_slope(const DecodeRow& row, Span keys, int count, float* scores) {
  const int64_t first =
      larger<int64_t>(INT32_MIN / 2, smaller<int64_t>(INT32_MAX / 2, keys.begin - row.position));
  const IntVec steps = splat_int((int32_t)first) + lane_numbers();
  for_row(count, scores, [&](int k, Vec s) {
    const Vec step = __builtin_convertvector(steps + splat_int(k), Vec);
    return plus_or_hidden(s, splat(-row.slope) * absolute(step));
  });
}

inline void add_table(const DecodeRow& row, int64_t radius, Span keys, int count, float* scores) {
  const int64_t first = keys.begin - row.position;
  float entries[kDecodeKeys + kLanes];
  const float* from = row.table + radius + first;
  if (first < -radius || first + count - 1 > radius) {
    for (int k = 0; k < count; k++) {
      entries[k] = row.table[larger(-radius, smaller(radius, first + k)) + radius];
    }
    from = entries;
  }
  for_row(count, scores,
          [&](int k, Vec s) { return plus_bias(s, load_part(from + k, smaller(kLanes, count - k))); });
}

template <class Element>
inline void add_bias_row(const Element* bias, int64_t stride, int count, float* scores) {
  float entries[kDecodeKeys + kLanes];
  if (stride != 1) {
    for (int k = 0; k < count; k++) entries[k] = to_float(bias + k * stride);
  }
  for_row(count, scores, [&](int k, Vec s) {
    const int there = smaller(kLanes, count - k);
    const Vec entry = stride == 1 ? load_part(bias + k, there) : load_part(entries + k, there);
    return plus_bias(s, entry);
  });
}

inline void add_bias(const sightline_problem& p, const DecodeRow& row, Span keys, int count, float* scores) {
  with_element(p.bias_dtype, [&](auto element) {
    typedef decltype(element) Element;
    const int64_t stride = p.bias_stride[3];
    add_bias_row(static_cast<const Element*>(p.bias) + row.bias + keys.begin * stride, stride, count, scores);
  });
}

// --- masked ---

inline void mask_row_visible(const uint8_t* visible, int64_t stride, int count, float* scores) {
  uint8_t bytes[kDecodeKeys + 16] = {};
  if (stride == 1) {
    memcpy(bytes, visible, count);
  } else {
    for (int k = 0; k < count; k++) bytes[k] = visible[k * stride];
  }
  for_row(count, scores,
          [&](int k, Vec s) { return select(nonzero_bytes(bytes + k), s, splat(-kInfinity)); });
}

inline bool sees_all(const DecodeRow& row, int64_t slots, Span keys) {
  if (!row.ranges) return true;
  for (int64_t slot = 0; slot < slots; slot++) {
    if (row.ranges[2 * slot] <= keys.begin && keys.end <= row.ranges[2 * slot + 1]) return true;
  }
  return false;
}

inline void mask_row_ranges(const DecodeRow& row, int64_t slots, Span keys, int count, float* scores) {
  for_row(count, scores, [&](int k, Vec s) {
    const IntVec key = splat_int((int32_t)keys.begin + k) + lane_numbers();
    Mask seen = greater_int(IntVec{}, IntVec{});
    for (int64_t slot = 0; slot < slots; slot++) {
      const IntVec lo = splat_int(row.ranges[2 * slot]), hi = splat_int(row.ranges[2 * slot + 1]);
      seen = either(seen, inside(key, lo, hi));
    }
    return select(seen, s, splat(-kInfinity));
  });
}

// Whether a problem has any stage between scaled scores and weights.
inline bool has_stages(const sightline_problem& p) {
  return p.softcap > 0 || p.slopes || p.table || p.bias || p.visible || p.ranges;
}

// Hides what fills the last vector.
inline void hide_rest(int count, float* scores) {
  const int rest = count % kLanes;
  if (!rest) return;
  float* last = scores + count - rest;
  store(last, select(greater_int(splat_int(rest), lane_numbers()), load(last), splat(-kInfinity)));
}

struct RowStages {
  const sightline_problem& p;
  const DecodeRow& row;
  Span keys;
  float* scores;
  int count = (int)(keys.end - keys.begin);

  bool has_capped() const { return p.softcap > 0; }
  void capped() const {
    const Vec cap = splat(p.softcap * kLog2e);
    for_row(count, scores, [&](int, Vec s) { return cap * tanh(s); });
  }

  bool has_biased() const { return p.slopes || p.table || p.bias; }
  void biased() const {
    if (p.slopes) add_slope(row, keys, count, scores);
    if (p.table) add_table(row, p.radius, keys, count, scores);
    if (p.bias) add_bias(p, row, keys, count, scores);
  }

  bool has_masked() const { return p.visible || p.ranges; }
  void masked() const {
    if (p.visible) {
      const int64_t stride = p.visible_stride[3];
      mask_row_visible(row.visible + keys.begin * stride, stride, count, scores);
    }
    if (!sees_all(row, p.range_count, keys)) mask_row_ranges(row, p.range_count, keys, count, scores);
  }
};

}  // namespace
}  // namespace sightline
