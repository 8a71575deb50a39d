// Moving rows into lanes and back: tiles of kLanes x kLanes are transposed in registers.
#pragma once

#include "simd.h"

namespace sightline {
namespace {

// One tile: to[c * to_stride + r] = factor * from[r * from_stride + c]. Missing rows become 0.
SL_INLINE void transpose_tile(const float* from, int64_t from_stride, int rows, int columns, Vec factor,
                              float* to, int64_t to_stride) {
  Vec tile[kLanes];
  SL_UNROLL for (int r = 0; r < kLanes; r++) {
    const float* row = from + r * from_stride;
    tile[r] = r >= rows ? Vec{} : columns == kLanes ? load(row) : load_part(row, columns);
  }
  transpose(tile);
  if (columns == kLanes) {
    SL_UNROLL for (int c = 0; c < kLanes; c++) store(to + c * to_stride, tile[c] * factor);
  } else {
    for (int c = 0; c < columns; c++) store(to + c * to_stride, tile[c] * factor);
  }
}

// from [rows][columns] -> to [columns][lanes], with `vectors` vectors of lanes, of which `rows` are real.
inline void transpose_in(const float* from, int64_t from_stride, int rows, int64_t columns, int vectors,
                         float factor, float* to, int64_t to_stride) {
  for (int v = 0; v < vectors; v++) {
    const int rows_here = smaller(kLanes, rows - v * kLanes);
    for (int64_t c = 0; c < columns; c += kLanes) {
      transpose_tile(from + v * kLanes * from_stride + c, from_stride, rows_here,
                     (int)smaller<int64_t>(kLanes, columns - c), splat(factor),
                     to + c * to_stride + v * kLanes, to_stride);
    }
  }
}

// from [columns][lanes] -> to [rows][columns]; lane r is multiplied by factor[r]. One vector of lanes.
inline void transpose_out(const float* from, int64_t from_stride, Vec factor, int64_t columns, int rows,
                          float* to, int64_t to_stride) {
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
