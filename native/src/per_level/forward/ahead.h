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
