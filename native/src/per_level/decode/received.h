// What each key received in a decode: the weights of the rows, once their lse is known, summed over queries.
//
//   received[key] += sum_rows weights 2^(m - lse)
//
// The weights were kept by the parts, each chunk's relative to the m that the row had then, so that neither
// keys nor values are read once more, and no exponential is computed twice.
#pragma once

#include "per_level/decode/row.h"
#include "per_level/stages/lse.h"
#include "per_level/vectors/dtypes.h"
#include "per_level/vectors/functions.h"
#include "shared/work.h"

namespace sightline {
namespace {

// Rows that are added up at once: what they are multiplied with stays in registers.
constexpr int kReceivedRows = 4;

template <int rows>
SL_INLINE void add_chunk(const float* weights, int64_t stride, const float (&factor)[kReceivedRows],
                         int count, float* to) {
  Vec by[rows];
  SL_UNROLL for (int r = 0; r < rows; r++) by[r] = splat(factor[r]);
  for (int k = 0; k < count; k += kLanes) {
    const int there = smaller(kLanes, count - k);
    const bool whole = there == kLanes;
    Vec sum = whole ? load(to + k) : load_part(to + k, there);
    SL_UNROLL for (int r = 0; r < rows; r++) {
      const float* from = weights + r * stride + k;
      sum = fma(whole ? load(from) : load_part(from, there), by[r], sum);
    }
    whole ? store(to + k, sum) : store_part(to + k, sum, there);
  }
}

// All chunks of some rows.
template <int rows>
void add_rows(const DecodePart& group, const DecodeKept& kept, int64_t first, const Lse* lse, float* to) {
  const int64_t end = (group.end + kDecodeCell - 1) / kDecodeCell;
  for (int64_t cell = group.begin / kDecodeCell; cell < end; cell++) {
    if (kept.ends[cell] == 0) continue;
    float factor[kReceivedRows];
    SL_UNROLL for (int r = 0; r < rows; r++) {
      const float largest = kept.largest[(first + r) * kept.cells + cell];
      factor[r] = exp2(splat((largest - lse[r].high) - lse[r].low))[0];
    }
    const int64_t begin = kept.begins[cell];
    add_chunk<rows>(kept.weights + first * kept.stride + begin, kept.stride, factor,
                    (int)(kept.ends[cell] - begin), to + begin);
  }
}

// Rows [first, first + count) of the group, to one row of sums.
inline void add_received(const sightline_problem& p, const DecodePart& group, const DecodeKept& kept,
                         const double* lse, int64_t first, int64_t count, float* to) {
  const double* of_group = lse + (group.b * p.heads + group.g * (p.heads / p.kv_heads)) * p.queries;
  for (int64_t at = first; at < first + count;) {
    const int64_t left = first + count - at;
    Lse some[kReceivedRows];
    for (int r = 0; r < kReceivedRows && r < left; r++) some[r] = split_lse(of_group[at + r]);
    const bool many = left >= kReceivedRows;
    many ? add_rows<kReceivedRows>(group, kept, at, some, to) : add_rows<1>(group, kept, at, some, to);
    at += many ? kReceivedRows : 1;
  }
}

void decode_received(const sightline_problem& p, const DecodePart& group, const DecodeKept& kept,
                     const double* lse, const ReceivedOut& out) {
  float* to = out.sums + group.b * out.stride[0];
  if (out.grouped) return add_received(p, group, kept, lse, 0, group.rows, to + group.g * out.stride[1]);
  for (int64_t first = 0; first < group.rows; first += p.queries) {
    const int64_t h = group.g * (p.heads / p.kv_heads) + first / p.queries;
    add_received(p, group, kept, lse, first, p.queries, to + h * out.stride[1]);
  }
}

}  // namespace
}  // namespace sightline
