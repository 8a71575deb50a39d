// What moves: the tangents of query, key and value as the products read them.
//
// The tangent of a score is one product of rows twice as wide:  d query . key + query . d key  is
// [d query | query] . [key | d key]; where one of the two stands still, its half is left out.
#pragma once

#include "per_level/forward/weights.h"

namespace sightline {
namespace {

// Everything is multiplied in float32: tangents of bfloat16 would lose what pairs gain.
typedef Float32Products TangentProducts;

struct Moves {
  Rows query, key, value;  // null data: stands still
  int64_t width;           // of the rows that make the tangent of a score; 0: neither moves
};

inline Moves make_moves(const Block& block, const sightline_tangents& t) {
  const sightline_problem& p = *block.problem;
  const int64_t g = block.h / (p.heads / p.kv_heads);
  Moves moves = {};
  if (t.query) moves.query = head_rows(t.query, t.query_stride, p.dtype, block.b, block.h, block.first);
  if (t.key) moves.key = head_rows(t.key, t.key_stride, p.dtype, block.b, g, 0);
  if (t.value) moves.value = head_rows(t.value, t.value_stride, p.dtype, block.b, g, 0);
  moves.width = p.width * ((t.query != nullptr) + (t.key != nullptr));
  return moves;
}

// [d query | query]^T, times the scale.
inline void pack_moving_query(const Block& block, const Moves& moves, float* query_t) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
  const auto pack = [&](const Rows& rows, int64_t column) {
    for (int slab = 0; slab < slabs(block); slab++) {
      const int row = slab * kSlabRows;
      with_element(rows.dtype, [&](auto e) {
        typedef decltype(e) Element;
        const ScaledRows<Element> from{rows.at<Element>(row), rows.stride, block.problem->scale};
        transpose_in(from, smaller(kSlabRows, block.count - row), block.width, slab_vectors(block, slab),
                     query_t + (slab * moves.width + column) * kSlabRows, kSlabRows);
      });
    }
  };
  if (moves.query.data) pack(moves.query, 0);
  if (moves.key.data) pack(block.query, moves.width - block.width);
}

inline void pack_beside(const Rows& from, int64_t rows, int64_t width, float* to, int64_t stride) {
  for (int64_t j = 0; j < rows; j++) pack_floats(from.from(j), 1, width, to + j * stride);
}

// [key | d key] of a run of keys.
inline void pack_moving_keys(const Rows& key, const Moves& moves, int64_t width, Span keys, float* to) {
  const int64_t count = keys.end - keys.begin;
  if (moves.query.data) pack_beside(key.from(keys.begin), count, width, to, moves.width);
  if (moves.key.data) {
    pack_beside(moves.key.from(keys.begin), count, width, to + moves.width - width, moves.width);
  }
}

// Those of a chunk, of the whole head's if it was packed before.
inline WordRows read_moving_keys(const Block& block, const Moves& moves, Span chunk, const float* packed,
                                 float* room) {
  if (packed) return {packed + chunk.begin * moves.width, moves.width};
  const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
  pack_moving_keys(block.key, moves, block.width, chunk, room);
  return {room, moves.width};
}

// A head's as a whole.
int64_t moving_floats(const sightline_problem& p, const sightline_tangents& t) {
  return p.keys * p.width * ((t.query != nullptr) + (t.key != nullptr));
}
void pack_moving(const sightline_problem& p, const sightline_tangents& t, int64_t b, int64_t g, float* to) {
  const Block block = make_block(p, b, g * (p.heads / p.kv_heads), 0, nullptr);
  pack_moving_keys(block.key, make_moves(block, t), p.width, {0, p.keys}, to);
}

// d value of a chunk of keys.
inline WordRows read_moving_values(const Block& block, const Moves& moves, Span chunk, float* room) {
  const Zone zone(block.zones, SIGHTLINE_STAGE_CONTEXT);
  if (moves.value.dtype == SIGHTLINE_FLOAT32) {
    return {moves.value.at<float>(chunk.begin), moves.value.stride};
  }
  pack_floats(moves.value.from(chunk.begin), chunk.end - chunk.begin, block.value_width, room);
  return {room, block.value_width};
}

}  // namespace
}  // namespace sightline
