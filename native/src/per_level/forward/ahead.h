// What a block of queries, and the one after it, will touch for the first time.
#pragma once

#include "per_level/forward/context.h"
#include "per_level/memory/ahead.h"

namespace sightline {
namespace {

// Asks for keys and values [first, first + count) of a head.
inline void add_rows_ahead(Ahead& ahead, const Rows& rows, int64_t first, int64_t count, int64_t width) {
  const Rows from = rows.from(first);
  ahead.add(from.data, from.bytes(from.stride), count, from.bytes(width));
}
inline void add_keys_ahead(Ahead& ahead, const Block& block, bool values, int64_t first, int64_t count) {
  add_rows_ahead(ahead, block.key, first, count, block.width);
  if (values) add_rows_ahead(ahead, block.value, first, count, block.value_width);
}

inline void next_head_ahead(Ahead& ahead, const Block& block, bool values) {
  const sightline_problem& p = *block.problem;
  const bool last = block.h + 1 == p.heads;
  if (last && block.b + 1 == p.batch) return;
  const Block next = make_block(p, block.b + last, last ? 0 : block.h + 1, 0, nullptr);
  add_rows_ahead(ahead, next.query, 0, next.count, next.width);
  if (next.key.data != block.key.data) {
    add_keys_ahead(ahead, next, values, 0, smaller<int64_t>(kMaxChunkKeys, p.keys));
  }
}

// Keys and values of a head from so many bytes on leave the second cache until the next block of queries
// reads them.
constexpr int64_t kLeaveSecondCache = 512 << 10;

// Asks, while a chunk is computed, for the keys and values of the one after it, which lie in place or packed:
// 16,384 tokens of float32 took 6 % less. Panels of registers are done with a chunk before its lines could
// come, and took 4 % more.
template <class Products>
SL_INLINE void add_chunk_ahead(Ahead& ahead, const Block& block, const Operands& operands, Span chunk,
                               bool values) {
  if (Products::kByColumn) return;
  const int64_t word = sizeof(float), key_bytes = word * row_words<Products>(block.width);
  const int64_t value_bytes = word * block.value_width;
  if (block.keys * (key_bytes + value_bytes / Products::kElements) < kLeaveSecondCache) return;
  const int64_t count = smaller(chunk.end - chunk.begin, block.keys - chunk.end);
  const WordRows &key = operands.key.rows, &value = operands.value.rows;
  if (key.data) ahead.add(key.row(chunk.end), word * key.stride, count, key_bytes);
  if (!values || !value.data) return;
  const WordRows from = values_from<Products>(value, chunk.end);
  ahead.add(from.data, word * from.stride, words<Products>(count), value_bytes);
}

// The rows of the context that this block will write, and what the block after it will be the first to read.
inline void add_block_ahead(Ahead& ahead, const Block& block, const Ranges& ranges, const ForwardOut& out) {
  if (out.context) add_rows_ahead(ahead, context_rows(block, out), 0, block.count, block.value_width);
  const int64_t left = block.problem->queries - block.first - block.count;
  if (left > 0) {
    add_rows_ahead(ahead, block.query, block.count, smaller<int64_t>(kBlockRows, left), block.width);
    const int64_t end = last_key(ranges);
    add_keys_ahead(ahead, block, out.context, end, smaller<int64_t>(kBlockRows, block.keys - end));
  } else {
    next_head_ahead(ahead, block, out.context);
  }
}

}  // namespace
}  // namespace sightline
