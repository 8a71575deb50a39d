// Decode: when it pays, and how the rows and keys are cut into parts.
#pragma once

#include <algorithm>

#include "once/schedules/blocks.h"

namespace sightline {

// Rows of one part: they share the keys that it reads, and their contexts stay in the L2 cache.
constexpr int64_t kDecodeRows = 64;

// Keys of one part, more where there are parts enough: each leaves a context per row to be merged.
constexpr int64_t kDecodePartKeys = 512;
constexpr int64_t kDecodeManyParts = 512;

// As kWorkPerThread, where memory is what takes the time.
constexpr double kBytesPerThread = 1 << 20;

// Dropout belongs to training, which has many queries: blocks do it.
inline bool decodes(const Kernels& kernels, const sightline_problem& p) {
  return p.queries <= kernels.decode_queries && p.keys > 0 && p.keep_scale == 0;
}

// Nothing but the number of workers depends on the threads, so the result does not.
struct DecodeSchedule {
  const sightline_problem& problem;
  int64_t group_rows, row_parts, groups, part_keys, key_parts;
  int workers;

  // `whole`: the rows of a group are never cut.
  DecodeSchedule(const sightline_problem& p, int threads, bool values, bool whole = false) : problem(p) {
    group_rows = p.heads / p.kv_heads * p.queries;
    row_parts = whole ? 1 : divide_up(group_rows, kDecodeRows);
    groups = p.batch * p.kv_heads * row_parts;
    part_keys = kDecodePartKeys;
    while (part_keys < p.keys && groups * divide_up(p.keys, part_keys) > kDecodeManyParts) part_keys *= 2;
    key_parts = divide_up(p.keys, part_keys);
    const double columns = (double)p.width + (values ? p.value_width : 0);
    const double entries = (double)p.batch * p.kv_heads * p.keys * columns;
    const double bytes = entries * element_bytes(p.dtype), work = entries * group_rows;
    const double useful = std::max(bytes / kBytesPerThread, work / kWorkPerThread) + 1;
    const int64_t most = threads < parts() ? threads : parts();
    workers = useful < most ? (int)useful : (int)most;
  }

  int64_t parts() const { return groups * key_parts; }

  // Rows of the largest part.
  int64_t most_rows() const { return divide_up(group_rows, row_parts); }

  DecodePart part(int64_t item) const {
    const int64_t group = item / key_parts, begin = item % key_parts * part_keys;
    DecodePart part = rows_of(group);
    part.begin = begin;
    part.end = begin + part_keys < problem.keys ? begin + part_keys : problem.keys;
    return part;
  }

  DecodePart rows_of(int64_t group) const {
    const int64_t head = group / row_parts, at = group % row_parts;
    const int64_t first = group_rows * at / row_parts, end = group_rows * (at + 1) / row_parts;
    return {head / problem.kv_heads, head % problem.kv_heads, first, (int)(end - first), 0, 0};
  }

  // Rows before those of a group, over all groups.
  int64_t rows_before(int64_t group) const {
    return group / row_parts * group_rows + group_rows * (group % row_parts) / row_parts;
  }

 private:
  static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
};

}  // namespace sightline
