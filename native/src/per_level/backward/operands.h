// What the backward products read of a head's keys and values: rows of words (products/words.h).
//
//   key, value:  row j holds key or value j by its columns, to meet queries and grad_context
//   key_columns: the keys as values are read (products/operands.h), to meet grad_scores
//
// Rows that are that already are read in place; the others are packed, once per head.
#pragma once

#include "per_level/products/operands.h"
#include "per_level/products/seen.h"
#include "per_level/stages/terms.h"

namespace sightline {
namespace {

struct BackwardOperands {
  WordRows key, value, key_columns;
};

template <class Products>
bool words_in_place(const void* rows, const int64_t (&stride)[3], int32_t dtype, int64_t width) {
  const bool far = stride[2] * element_bytes(dtype) >= kFarStride && stride[2] > width;
  if (Products::kElements == 1) return dtype == SIGHTLINE_FLOAT32 && !far;
  return rows_are_words<Products>(rows, stride, width) && !far;
}

// Where packed words lie, in floats; negative: not packed.
struct BackwardPacking {
  int64_t key = -1, value = -1, key_columns = -1, total = 0;

  void take(int64_t& place, int64_t count) {
    place = total;
    total += (count + 15) / 16 * 16;
  }
};

template <class Products>
BackwardPacking backward_packing(const sightline_problem& p) {
  BackwardPacking packing;
  if (!words_in_place<Products>(p.key, p.key_stride, p.dtype, p.width)) {
    packing.take(packing.key, key_words<Products>(p.keys, p.width));
  }
  if (!words_in_place<Products>(p.value, p.value_stride, p.dtype, p.value_width)) {
    packing.take(packing.value, key_words<Products>(p.keys, p.value_width));
  }
  if (Products::kElements > 1) packing.take(packing.key_columns, value_words<Products>(p.keys, p.width));
  return packing;
}

int64_t backward_words(const sightline_problem& p) {
  return with_products(p.dtype, [&](auto products) { return backward_packing<decltype(products)>(p).total; });
}

// Whether a head's keys and values are finite, and so are products of them with rows that are; asked only
// where something may be hidden.
bool head_moderate(const sightline_problem& p, int64_t b, int64_t g) {
  if (!may_hide(p)) return true;
  bool moderate = true;
  with_element(p.dtype, [&](auto element) {
    typedef decltype(element) Element;
    const Rows key = head_rows(p.key, p.key_stride, p.dtype, b, g, 0),
               value = head_rows(p.value, p.value_stride, p.dtype, b, g, 0);
    moderate = all_moderate(key.at<Element>(0), key.stride, p.keys, p.width) &&
               all_moderate(value.at<Element>(0), value.stride, p.keys, p.value_width);
  });
  return moderate;
}

void pack_backward(const sightline_problem& p, int64_t b, int64_t g, float* to) {
  with_products(p.dtype, [&](auto products) {
    const BackwardPacking packing = backward_packing<decltype(products)>(p);
    const Rows key = head_rows(p.key, p.key_stride, p.dtype, b, g, 0);
    if (packing.key >= 0) pack_keys(products, key, p.keys, p.width, to + packing.key);
    if (packing.value >= 0) {
      pack_keys(products, head_rows(p.value, p.value_stride, p.dtype, b, g, 0), p.keys, p.value_width,
                to + packing.value);
    }
    if (packing.key_columns >= 0) {
      pack_values(products, key, p.keys, p.width, value_stride<decltype(products)>(p.keys, p.width),
                  to + packing.key_columns);
    }
  });
}

template <class Products>
BackwardOperands find_backward_operands(const Block& block, const float* packed) {
  const BackwardPacking packing = backward_packing<Products>(*block.problem);
  const auto rows = [&](const Rows& given, int64_t place, int64_t width) -> WordRows {
    if (place >= 0) return {packed + place, row_words<Products>(width)};
    return {given.at<float>(0), given.stride / Products::kElements};
  };
  BackwardOperands operands;
  operands.key = rows(block.key, packing.key, block.width);
  operands.value = rows(block.value, packing.value, block.value_width);
  operands.key_columns = operands.key;
  if (packing.key_columns >= 0) {
    operands.key_columns = {packed + packing.key_columns, value_stride<Products>(block.keys, block.width)};
  }
  return operands;
}

}  // namespace
}  // namespace sightline
