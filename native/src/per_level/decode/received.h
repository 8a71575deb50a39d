// What each key received in a decode: the weights of the rows, once their lse is known, summed over queries.
//
//   received[key] += sum_rows 2^(masked - lse)
//
// The logits were kept by the parts, so that neither keys nor values are read once more.
#pragma once

#include "per_level/decode/row.h"
#include "per_level/stages/lse.h"
#include "per_level/vectors/dtypes.h"
#include "per_level/vectors/functions.h"
#include "shared/work.h"

namespace sightline {
namespace {

// Rows that are added up at once: their lse stays in registers.
constexpr int kReceivedRows = 4;

// Weights of some rows, added up; a hidden key has 0 whatever the lse.
template <int rows>
SL_INLINE Vec weights_of_rows(const float* logits, int64_t stride, const Lse* lse) {
  Vec sum = {};
  SL_UNROLL for (int r = 0; r < rows; r++) {
    const Vec masked = load(logits + r * stride);
    const Vec weight = exp2((masked - splat(lse[r].high)) - splat(lse[r].low));
    sum += select(greater(masked, splat(-kInfinity)), weight, select(is_nan(masked), masked, Vec{}));
  }
  return sum;
}

template <int rows>
void add_rows(const float* logits, int64_t stride, const Lse* lse, int64_t begin, int64_t end, float* to) {
  int64_t k = begin;
  for (; k + kLanes <= end; k += kLanes) {
    store(to + k, load(to + k) + weights_of_rows<rows>(logits + k, stride, lse));
  }
  if (k == end) return;
  const int rest = (int)(end - k);
  store_part(to + k, load_part(to + k, rest) + weights_of_rows<rows>(logits + k, stride, lse), rest);
}

// Rows [first, first + count) of the group, to one row of sums.
inline void add_received(const sightline_problem& p, const DecodePart& group, const DecodeLogits& logits,
                         const double* lse, int64_t first, int64_t count, float* to) {
  const double* of_group = lse + (group.b * p.heads + group.g * (p.heads / p.kv_heads)) * p.queries;
  for (int64_t at = first; at < first + count;) {
    const int64_t left = first + count - at;
    Lse some[kReceivedRows];
    for (int r = 0; r < kReceivedRows && r < left; r++) some[r] = split_lse(of_group[at + r]);
    const float* rows = logits.data + at * logits.stride;
    if (left >= kReceivedRows) {
      add_rows<kReceivedRows>(rows, logits.stride, some, group.begin, group.end, to);
      at += kReceivedRows;
    } else {
      add_rows<1>(rows, logits.stride, some, group.begin, group.end, to);
      at += 1;
    }
  }
}

void decode_received(const sightline_problem& p, const DecodePart& group, const DecodeLogits& logits,
                     const double* lse, const ReceivedOut& out) {
  float* to = out.sums + group.b * out.stride[0];
  if (out.grouped) return add_received(p, group, logits, lse, 0, group.rows, to + group.g * out.stride[1]);
  for (int64_t first = 0; first < group.rows; first += p.queries) {
    const int64_t h = group.g * (p.heads / p.kv_heads) + first / p.queries;
    add_received(p, group, logits, lse, first, p.queries, to + h * out.stride[1]);
  }
}

}  // namespace
}  // namespace sightline
