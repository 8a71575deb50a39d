// A linear layer's product, out = a . b^T + bias, of float32, where b is packed before.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sightline {

// What is packed: [columns, depth].
struct LinearWeight {
  int64_t columns, depth;
  const float* data;
  int64_t stride[2];
};

struct Linear {
  int64_t rows, columns, depth;
  const float* a;  // [rows, depth]
  int64_t a_stride[2];
  const float* packed;
  const float* bias;  // [columns], or null
  float* out;         // [rows, columns], contiguous along columns
  int64_t out_stride;
};

// A rectangle of `out`.
struct LinearPart {
  int64_t row, rows, column, columns;
};

}  // namespace sightline
