// Rows as callers store them, copied to and from rows of floats whose width is padded to whole vectors.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace sightline {
namespace {

template <class Element>
inline void load_rows(const Element* from, int64_t from_stride, int64_t rows, int64_t columns, float* to) {
  const int64_t to_stride = padded_width(columns), whole = columns / kLanes * kLanes;
  for (int64_t r = 0; r < rows; r++, from += from_stride, to += to_stride) {
    for (int64_t c = 0; c < whole; c += kLanes) store(to + c, load(from + c));
    for (int64_t c = whole; c < to_stride; c += kLanes) {
      store(to + c, load_part(from + c, (int)larger<int64_t>(0, smaller<int64_t>(kLanes, columns - c))));
    }
  }
}

// to = factor * from.
template <class Element>
inline void store_rows(const float* from, float factor, int64_t rows, int64_t columns, Element* to,
                       int64_t to_stride) {
  const int64_t from_stride = padded_width(columns), whole = columns / kLanes * kLanes;
  const Vec times = splat(factor);
  for (int64_t r = 0; r < rows; r++, from += from_stride, to += to_stride) {
    for (int64_t c = 0; c < whole; c += kLanes) store(to + c, load(from + c) * times);
    if (whole < columns) store_part(to + whole, load(from + whole) * times, (int)(columns - whole));
  }
}

void load_rows_of(const void* from, int32_t, int64_t stride, int64_t rows, int64_t columns, float* to) {
  load_rows(static_cast<const float*>(from), stride, rows, columns, to);
}

void store_rows_of(const float* from, float factor, int64_t rows, int64_t columns, void* to, int32_t,
                   int64_t stride) {
  store_rows(from, factor, rows, columns, static_cast<float*>(to), stride);
}

}  // namespace
}  // namespace sightline
