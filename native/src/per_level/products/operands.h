// Keys and values as the products read them: rows of words.
//
//   keys:   row j holds key j
//   values: row j holds, column by column, the values of keys j * kElements to (j + 1) * kElements - 1;
//           where they lie by column (AMX), row e holds those words of column e, key by key
//
// Where the caller's rows are that already they are read in place. Else they are packed (converted to
// float32; or, for products of bfloat16, values paired up and odd ends filled with zeros): a whole head at a
// time where several blocks of queries will read it and there is room, or each chunk of keys before it is
// used.
#pragma once

#include "per_level/blocks/block.h"
#include "per_level/blocks/ranges.h"
#include "per_level/products/transpose.h"
#include "shared/work.h"

namespace sightline {
namespace {

// --- Packing ---

// Each row as floats.
template <class Element>
SL_INLINE void convert_rows(const Element* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  const int rest = (int)(width % kLanes);
  for (int64_t j = 0; j < rows; j++, from += stride, to += width) {
    for (int64_t c = 0; c + kLanes <= width; c += kLanes) store(to + c, load(from + c));
    if (rest) store_part(to + width - rest, load_part(from + width - rest, rest), rest);
  }
}

inline void pack_floats(const Rows& from, int64_t rows, int64_t width, float* to) {
  with_element(from.dtype, [&](auto element) {
    convert_rows(from.at<decltype(element)>(0), from.stride, rows, width, to);
  });
}
inline void pack_keys(Float32Products, const Rows& key, int64_t keys, int64_t width, float* to) {
  pack_floats(key, keys, width, to);
}
inline void pack_values(Float32Products, const Rows& value, int64_t keys, int64_t width, int64_t, float* to) {
  pack_floats(value, keys, width, to);
}

#if defined(SL_BFLOAT16_PRODUCTS)

// Each row's elements by twos.
inline void pack_keys(Bfloat16Products, const Rows& key, int64_t keys, int64_t width, float* to) {
  const int64_t row_words = words<Bfloat16Products>(width);
  for (int64_t j = 0; j < keys; j++, to += row_words) {
    if (width % 2) to[row_words - 1] = 0;
    memcpy(to, key.at<Bfloat16>(j), sizeof(Bfloat16) * width);
  }
}

// Rows by twos, column by column; `high` null: zeros.
inline void pair_rows(const Bfloat16* low, const Bfloat16* high, int64_t width, float* to) {
  int64_t c = 0;
  for (; c + kPairLanes <= width; c += kPairLanes) {
    const PairVec a = load_pairs(low + c), b = high ? load_pairs(high + c) : PairVec{};
    store_pairs(to + c, interleave_low(a, b));
    store_pairs(to + c + kLanes, interleave_high(a, b));
  }
  for (; c < width; c++) {
    const Bfloat16 pair[2] = {low[c], high ? high[c] : Bfloat16{0}};
    memcpy(to + c, pair, sizeof pair);
  }
}
inline void pack_values(Bfloat16Products, const Rows& value, int64_t keys, int64_t width, int64_t,
                        float* to) {
  for (int64_t j = 0; j < keys; j += 2, to += width) {
    pair_rows(value.at<Bfloat16>(j), j + 1 < keys ? value.at<Bfloat16>(j + 1) : nullptr, width, to);
  }
}

#endif

#if defined(SL_AMX_PRODUCTS)

// Each row's elements by twos, and zeros up to a whole register.
inline void pack_keys(AmxProducts, const Rows& key, int64_t keys, int64_t width, float* to) {
  const int64_t row_bytes = row_words<AmxProducts>(width) * sizeof(float), given = width * sizeof(Bfloat16);
  if (width == 0) return;  // and perhaps no memory
  char* row = reinterpret_cast<char*>(to);
  for (int64_t j = 0; j < keys; j++, row += row_bytes) {
    memcpy(row, key.at<Bfloat16>(j), given);
    memset(row + given, 0, row_bytes - given);
  }
}

// Rows by twos, column by column, transposed; zeros up to a whole register.
inline void pack_values(AmxProducts, const Rows& value, int64_t keys, int64_t width, int64_t stride,
                        float* to) {
  const PairedKeys pairs = {value.at<Bfloat16>(0), value.stride, keys};
  const int64_t count = words<AmxProducts>(keys);
  for (int64_t j = 0; j < count; j += kLanes) {
    for (int64_t e = 0; e < width; e += kLanes) {
      transpose_tile(pairs, j, (int)smaller<int64_t>(kLanes, count - j), e,
                     (int)smaller<int64_t>(kLanes, width - e), to + e * stride + j, stride);
    }
  }
}

#endif

// From one row of packed values to the next, in words. By column, an odd number of cache lines: rows a power
// of two apart would all fall into the same few sets.
template <class Products>
constexpr int64_t value_stride(int64_t keys, int64_t width) {
  return Products::kByColumn ? ((words<Products>(keys) + kLanes - 1) / kLanes | 1) * kLanes : width;
}

// Words that packed keys or values take.
template <class Products>
constexpr int64_t key_words(int64_t keys, int64_t width) {
  return keys * row_words<Products>(width);
}
template <class Products>
constexpr int64_t value_words(int64_t keys, int64_t width) {
  return (Products::kByColumn ? width : words<Products>(keys)) * value_stride<Products>(keys, width);
}

// --- Reading ---

// Whether rows are whole words (for AMX, whole registers) where the caller has them.
template <class Products>
bool rows_are_words(const void* rows, const int64_t (&stride)[3], int64_t width) {
  constexpr int64_t kWhole = Products::kElements * Products::kRowWords;
  const int64_t odd = width | stride[0] | stride[1] | stride[2];
  return odd % kWhole == 0 && reinterpret_cast<uintptr_t>(rows) % (sizeof(float) * Products::kRowWords) == 0;
}
template <class Products>
bool keys_in_place(const sightline_problem& p) {
  if (Products::kElements == 1) return p.dtype == SIGHTLINE_FLOAT32;
  return rows_are_words<Products>(p.key, p.key_stride, p.width);
}
template <class Products>
bool values_in_place(const sightline_problem& p) {
  return Products::kElements == 1 && p.dtype == SIGHTLINE_FLOAT32;
}

struct WordRows {
  const float* data;
  int64_t stride;
  SL_INLINE const float* row(int64_t i) const { return data + i * stride; }
};

// Where one head's words are. A null `data` says that they have to be packed chunk by chunk, into `room`.
struct Operand {
  WordRows rows;
  float* room;
};
struct Operands {
  Operand key, value;
};

template <class Products>
Operands take_operands(const sightline_problem& p, Scratch& scratch) {
  Operands operands = {};
  if (!keys_in_place<Products>(p)) {
    operands.key.room = scratch.take<float>(key_words<Products>(kMaxChunkKeys, p.width));
  }
  if (!values_in_place<Products>(p)) {
    operands.value.room = scratch.take<float>(value_words<Products>(kMaxChunkKeys, p.value_width));
  }
  return operands;
}

template <class Products>
void find_operands(const Block& block, const PackedHead& packed, Operands& operands) {
  const sightline_problem& p = *block.problem;
  if (packed.key) {
    operands.key.rows = {packed.key, row_words<Products>(p.width)};
  } else if (keys_in_place<Products>(p)) {
    operands.key.rows = {block.key.at<float>(0), block.key.stride / Products::kElements};
  }
  if (packed.value) {
    operands.value.rows = {packed.value, value_stride<Products>(p.keys, p.value_width)};
  } else if (values_in_place<Products>(p)) {
    operands.value.rows = {block.value.at<float>(0), block.value.stride};
  }
}

template <class Products>
void pack_key_chunk(const Block& block, const Operand& key, Span chunk) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
  pack_keys(Products(), block.key.from(chunk.begin), chunk.end - chunk.begin, block.width, key.room);
}
template <class Products>
void pack_value_chunk(const Block& block, const Operand& value, Span chunk) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  pack_values(Products(), block.value.from(chunk.begin), chunk.end - chunk.begin, block.value_width,
              value_stride<Products>(kMaxChunkKeys, block.value_width), value.room);
}

// From some key on, which begins a word.
template <class Products>
SL_INLINE WordRows values_from(const WordRows& values, int64_t key) {
  const int64_t word = key / Products::kElements;
  return {Products::kByColumn ? values.data + word : values.row(word), values.stride};
}

// The words of a chunk of keys; row 0 is the chunk's first, which is even.
template <class Products>
SL_INLINE WordRows read_keys(const Block& block, const Operand& key, Span chunk) {
  if (key.rows.data) return {key.rows.row(chunk.begin), key.rows.stride};
  pack_key_chunk<Products>(block, key, chunk);
  return {key.room, row_words<Products>(block.width)};
}
template <class Products>
SL_INLINE WordRows read_values(const Block& block, const Operand& value, Span chunk) {
  if (value.rows.data) return values_from<Products>(value.rows, chunk.begin);
  pack_value_chunk<Products>(block, value, chunk);
  return {value.room, value_stride<Products>(kMaxChunkKeys, block.value_width)};
}

}  // namespace
}  // namespace sightline
