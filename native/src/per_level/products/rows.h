// Rows of a block as the products that sum over queries read them, and rows of sums as callers store them.
//
// Both are padded with zeros to whole vectors, padded_width() words a row.
#pragma once

#include "per_level/products/operands.h"

namespace sightline {
namespace {

// Row i of `to` holds, column by column, rows i * kElements and on: floats, or pairs of bfloat16.
inline void load_rows(Float32Products, const Rows& from, int rows, int64_t columns, float* to) {
  const int64_t stride = padded_width(columns), whole = columns / kLanes * kLanes;
  with_element(from.dtype, [&](auto element) {
    for (int r = 0; r < rows; r++) {
      const auto* row = from.at<decltype(element)>(r);
      for (int64_t c = 0; c < whole; c += kLanes) store(to + r * stride + c, load(row + c));
      for (int64_t c = whole; c < stride; c += kLanes) {
        const int count = (int)larger<int64_t>(0, smaller<int64_t>(kLanes, columns - c));
        store(to + r * stride + c, load_part(row + c, count));
      }
    }
  });
}

#if defined(SL_BFLOAT16_PRODUCTS)
inline void load_rows(Bfloat16Products, const Rows& from, int rows, int64_t columns, float* to) {
  const int64_t stride = padded_width(columns);
  for (int r = 0; r < rows; r += 2, to += stride) {
    pair_rows(from.at<Bfloat16>(r), r + 1 < rows ? from.at<Bfloat16>(r + 1) : nullptr, columns, to);
    memset(to + columns, 0, sizeof(float) * (stride - columns));
  }
}
#endif

void store_rows(const float* from, float factor, int64_t rows, int64_t columns, void* to, int32_t dtype,
                int64_t to_stride) {
  const int64_t from_stride = padded_width(columns), whole = columns / kLanes * kLanes;
  const Vec times = splat(factor);
  with_element(dtype, [&](auto element) {
    auto* row = static_cast<decltype(element)*>(to);
    for (int64_t r = 0; r < rows; r++, row += to_stride) {
      const float* x = from + r * from_stride;
      for (int64_t c = 0; c < whole; c += kLanes) store(row + c, load(x + c) * times);
      if (whole < columns) store_part(row + whole, load(x + whole) * times, (int)(columns - whole));
    }
  });
}

}  // namespace
}  // namespace sightline
