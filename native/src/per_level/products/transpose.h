// Moving rows into lanes and back: tiles of kLanes x kLanes are transposed in registers.
#pragma once

#include "per_level/products/words.h"

namespace sightline {
namespace {

// --- What a row is read as, `count` columns of it from `column` on ---

// Floats, times a factor.
template <class Element>
struct ScaledRows {
  const Element* from;
  int64_t stride;
  float factor;
  SL_INLINE Vec read(int64_t row, int64_t column, int count) const {
    const Element* at = from + row * stride + column;
    return (count == kLanes ? load(at) : load_part(at, count)) * splat(factor);
  }
};

// Words of two bfloat16 each; columns count words. Past the row's end there are zeros.
struct PairedRows {
  const Bfloat16* from;
  int64_t stride, width;
  SL_INLINE Vec read(int64_t row, int64_t column, int count) const {
    const Bfloat16* at = from + row * stride + 2 * column;
    Vec words = {};
    if (2 * (column + kLanes) <= width) {
      memcpy(&words, at, sizeof words);
    } else {
      memcpy(&words, at, smaller<int64_t>(2 * count, width - 2 * column) * sizeof(Bfloat16));
    }
    return words;
  }
};

#if defined(SL_AMX_PRODUCTS)

// Words of two keys each; rows count words.
struct PairedKeys {
  const Bfloat16* from;
  int64_t stride, keys;
  SL_INLINE Vec read(int64_t row, int64_t column, int count) const {
    const Bfloat16* low = from + 2 * row * stride + column;
    const IntVec second = 2 * row + 1 < keys ? bits(low + stride, count) : IntVec{};
    return (Vec)(bits(low, count) | second << 16);
  }

 private:
  static SL_INLINE IntVec bits(const Bfloat16* at, int count) {
    return (IntVec)_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), at));
  }
};

#endif

// --- Transposition ---

// One tile: to[c * to_stride + r] = rows.read(row + r)[column + c]. Missing rows become 0.
template <class RowsIn>
SL_INLINE void transpose_tile(const RowsIn& from, int64_t row, int rows, int64_t column, int columns,
                              float* to, int64_t to_stride) {
  Vec tile[kLanes];
  SL_UNROLL for (int r = 0; r < kLanes; r++) {
    tile[r] = r >= rows ? Vec{} : from.read(row + r, column, columns);
  }
  transpose(tile);
  if (columns == kLanes) {
    SL_UNROLL for (int c = 0; c < kLanes; c++) store(to + c * to_stride, tile[c]);
  } else {
    for (int c = 0; c < columns; c++) store(to + c * to_stride, tile[c]);
  }
}

// from [rows][columns] -> to [columns][lanes], with `vectors` vectors of lanes, of which `rows` are real.
template <class RowsIn>
SL_INLINE void transpose_in(const RowsIn& from, int rows, int64_t columns, int vectors, float* to,
                            int64_t to_stride) {
  for (int v = 0; v < vectors; v++) {
    for (int64_t c = 0; c < columns; c += kLanes) {
      transpose_tile(from, v * kLanes, smaller(kLanes, rows - v * kLanes), c,
                     (int)smaller<int64_t>(kLanes, columns - c), to + c * to_stride + v * kLanes, to_stride);
    }
  }
}

// from [columns][lanes] -> to [rows][columns]; lane r is multiplied by factor[r]. One vector of lanes.
template <class Element>
void transpose_out(const float* from, int64_t from_stride, Vec factor, int64_t columns, int rows, Element* to,
                   int64_t to_stride) {
  for (int64_t c = 0; c < columns; c += kLanes) {
    const int columns_here = (int)smaller<int64_t>(kLanes, columns - c);
    Vec tile[kLanes];
    SL_UNROLL for (int i = 0; i < kLanes; i++) {
      tile[i] = i < columns_here ? load(from + (c + i) * from_stride) * factor : Vec{};
    }
    transpose(tile);
    SL_UNROLL for (int r = 0; r < kLanes; r++) {
      if (r >= rows) continue;
      if (columns_here == kLanes) {
        store(to + r * to_stride + c, tile[r]);
      } else {
        store_part(to + r * to_stride + c, tile[r], columns_here);
      }
    }
  }
}

// One 16 x 16 tile of bytes, transposed; those beyond `rows` or `columns` are never read and become 0.
SL_INLINE void transpose_bytes_tile(const uint8_t* from, int64_t from_stride, int rows, int columns,
                                    uint8_t* to, int64_t to_stride) {
  Bytes16 tile[16];
  SL_UNROLL for (int r = 0; r < 16; r++) {
    tile[r] = Bytes16{};
    if (r < rows) memcpy(&tile[r], from + r * from_stride, columns);
  }
  transpose(tile);
  for (int c = 0; c < columns; c++) memcpy(to + c * to_stride, &tile[c], smaller(rows, 16));
}

}  // namespace
}  // namespace sightline
