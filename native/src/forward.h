// The forward pass of one block of queries: a running softmax over chunks of keys.
//
//   per chunk:  scores -> scaled -> capped -> biased -> masked        (scores.h)
//               m' = max(m, masked);  decay = 2^(m - m')
//               weights = 2^(masked - m');  l = l * decay + sum weights
//               context = context * decay + weights . value
//   at the end: context / l,  lse = m + log l
#pragma once

#include <cmath>

#include "dropout.h"
#include "scores.h"

namespace sightline {
namespace {

struct ForwardScratch {
  ScoreScratch scores;
  float* context_t;   // [slab][e][slab row]
  float* highest;     // m: [kBlockRows], in units of log 2
  float* sum;         // l: [kBlockRows]
  uint64_t* streams;  // of the dropout pattern
};

template <class Products>
ForwardScratch take_forward(const sightline_problem& p, Scratch& scratch) {
  ForwardScratch forward;
  forward.scores = take_scores<Products>(p, scratch);
  forward.context_t = scratch.take<float>(p.value_width * kBlockRows);
  forward.highest = scratch.take<float>(kBlockRows);
  forward.sum = scratch.take<float>(kBlockRows);
  forward.streams = take_streams(p, scratch);
  return forward;
}

// A sink is a key without a value: it stands in the sum before any other does.
inline void start_rows(const Block& block, const ForwardScratch& scratch) {
  const sightline_problem& p = *block.problem;
  const float sink = p.sinks ? p.sinks[block.h * p.sink_stride] : -kInfinity;
  for (int row = 0; row < kBlockRows; row++) {
    scratch.highest[row] = to_log2(sink);
    scratch.sum[row] = sink == -kInfinity ? 0.0f : 1.0f;
  }
  memset(scratch.context_t, 0, sizeof(float) * block.value_width * kBlockRows);
}

// One word of weights for each lane, of the scores of `keys` keys (at most kElements; the rest weighs 0).
// The sum of a row's weights is that of all of them; only those that `keep` leaves meet their values.
template <class Products, class Keep>
SL_INLINE Vec weigh(const float* scores, int keys, Vec subtract, Vec& sum, const Keep& keep, int key,
                    int vector) {
  Vec weights[Products::kElements] = {};
  SL_UNROLL for (int k = 0; k < keys; k++) {
    const Vec weight = exp2(load(scores + k * kSlabRows) - subtract);
    sum += weight;
    weights[k] = keep(weight, key + k, vector);
  }
  return Products::join(weights);
}

// masked -> weights in place, for one patch: rows of words, and the sums of what is not yet rounded to them.
template <class Products, int vectors, class Keep>
void exponentiate(float* scores, int keys, const Vec* shift, Vec* sums, const Keep& keep) {
  constexpr int step = Products::kElements;
  Vec subtract[vectors], sum[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) subtract[v] = shift[v], sum[v] = sums[v];
  const float* from = scores;
  float* to = scores;
  int key = 0;
#pragma GCC unroll 1
  for (; key + step <= keys; key += step, from += step * kSlabRows, to += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      store(to + v * kLanes, weigh<Products>(from + v * kLanes, step, subtract[v], sum[v], keep, key, v));
    }
  }
  if (key < keys) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      store(to + v * kLanes,
            weigh<Products>(from + v * kLanes, keys - key, subtract[v], sum[v], keep, key, v));
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) sums[v] = sum[v];
}

// Turns the chunk's scores into weights, and moves m and l on. `decay` is what older sums shrink by.
template <class Products>
void weigh_chunk(const Block& block, const Dropout& dropout, const ForwardScratch& scratch,
                 const ChunkScores& chunk, int64_t chunk_begin, int slab, Vec* decay) {
  float *highest = scratch.highest + slab * kSlabRows, *sum = scratch.sum + slab * kSlabRows;
  Vec shift[kSlabVectors], sums[kSlabVectors] = {};
  for (int v = 0; v < kSlabVectors; v++) {
    const Vec before = load(highest + v * kLanes);
    const Vec after = max_of(before, chunk.highest[v]);
    // A row that has seen nothing yet: subtracting -infinity would give NaN, subtracting 0 gives weights 0.
    shift[v] = select(equal(after, splat(-kInfinity)), Vec{}, after);
    // Exactly 1 while the maximum stands: the polynomial's 1 - 1e-7 would add up over many chunks.
    decay[v] = select(equal(before, shift[v]), splat(1.0f), exp2(before - shift[v]));
    store(highest + v * kLanes, after);
  }
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    const Place place = place_of(block, patch, slab, chunk_begin);
    with_vectors(patch.vectors, [&](auto n) {
      with_keep(dropout, place, [&](const auto& keep) {
        exponentiate<Products, n.value>(scores_of(scratch.scores, patch), patch.keys, shift + patch.vector,
                                        sums + patch.vector, keep);
      });
    });
  }
  for (int v = 0; v < kSlabVectors; v++) {
    store(sum + v * kLanes, fma(load(sum + v * kLanes), decay[v], sums[v]));
  }
}

// context = context * decay + weights . value; the first patch that touches a vector applies its decay.
template <class Products>
void add_context(const Block& block, const ForwardScratch& scratch, const ChunkScores& chunk,
                 const WordRows& value, int slab, Vec* decay) {
  float* context_t = scratch.context_t + slab * block.value_width * kSlabRows;
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    with_vectors(patch.vectors, [&](auto n) {
      context_product<n.value, Products>(value.row(patch.key / Products::kElements), value.stride,
                                         block.value_width, scores_of(scratch.scores, patch),
                                         (int)words<Products>(patch.keys), context_t + patch.vector * kLanes,
                                         decay + patch.vector);
    });
    for (int v = 0; v < patch.vectors; v++) decay[patch.vector + v] = splat(1.0f);
  }
}

template <class Products>
void forward_chunk(const Block& block, const Terms& terms, const Dropout& dropout,
                   const ForwardScratch& scratch, Span chunk, bool last, bool want_context) {
  const Operands& operands = scratch.scores.operands;
  const WordRows key = read_keys<Products>(block, operands.key, chunk);
  const WordRows value =
      want_context ? read_values<Products>(block, operands.value, chunk) : WordRows{nullptr, 0};
  for (int slab = 0; slab < slabs(block); slab++) {
    ChunkScores scores;
    score_chunk<Products>(block, terms, scratch.scores, key, chunk, last, slab, scores);
    if (scores.count == 0) continue;
    Vec decay[kSlabVectors];
    weigh_chunk<Products>(block, dropout, scratch, scores, chunk.begin, slab, decay);
    if (want_context) add_context<Products>(block, scratch, scores, value, slab, decay);
  }
}

// The rows of the context that this block writes.
SL_INLINE Rows context_rows(const Block& block, const ForwardOut& out) {
  return head_rows(out.context, out.context_stride, block.problem->dtype, block.b, block.h, block.first);
}

template <class Element>
void write_context(const Block& block, const ForwardScratch& scratch, Element* context, int64_t stride) {
  for (int v = 0; v < block.vectors(); v++) {
    const Vec sum = load(scratch.sum + v * kLanes);
    const Vec inverse = select(equal(sum, Vec{}), Vec{}, splat(1.0f) / sum);
    const int slab = v / kSlabVectors;
    transpose_out(scratch.context_t + slab * block.value_width * kSlabRows + v % kSlabVectors * kLanes,
                  kSlabRows, inverse, block.value_width, smaller(kLanes, block.count - v * kLanes),
                  context + v * kLanes * stride, stride);
  }
}

inline void write_lse(const Block& block, const ForwardScratch& scratch, float* lse) {
  for (int row = 0; row < block.count; row++) {
    const float sum = scratch.sum[row];
    lse[block.out_row() + row] = sum == 0 ? -kInfinity : from_log2(scratch.highest[row] + log2f(sum));
  }
}

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
  const Block next = make_block(p, block.b + last, last ? 0 : block.h + 1, 0);
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

template <class Products>
void forward_block_with(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h,
                        int64_t first, void* memory, const ForwardOut& out) {
  Scratch carver(memory);
  ForwardScratch scratch = take_forward<Products>(p, carver);
  const Block block = make_block(p, b, h, first);
  const Terms terms = make_terms(block);
  read_ranges(block, scratch.scores.ranges);
  find_operands<Products>(block, packed, scratch.scores.operands);
  Ahead ahead;
  add_block_ahead(ahead, block, scratch.scores.ranges, out);
  scratch.scores.ahead = &ahead;
  pack_query<Products>(block, terms, scratch.scores.query_t);
  start_rows(block, scratch);
  const Dropout dropout = make_dropout(block, scratch.streams);
  for_chunks(scratch.scores.ranges, [&](Span chunk, bool last) {
    forward_chunk<Products>(block, terms, dropout, scratch, chunk, last, out.context != nullptr);
  });
  if (out.context) {
    with_element(p.dtype, [&](auto element) {
      const auto to = const_cast<decltype(element)*>(context_rows(block, out).at<decltype(element)>(0));
      write_context(block, scratch, to, out.context_stride[2]);
    });
  }
  if (out.lse) write_lse(block, scratch, out.lse);
}

size_t forward_scratch(const sightline_problem& p) {
  return with_products(p.dtype, [&](auto products) {
    Scratch counter(nullptr);
    take_forward<decltype(products)>(p, counter);
    return counter.used();
  });
}

void forward_block(const sightline_problem& p, const PackedHead& packed, int64_t b, int64_t h, int64_t first,
                   void* memory, const ForwardOut& out) {
  with_products(p.dtype, [&](auto products) {
    forward_block_with<decltype(products)>(p, packed, b, h, first, memory, out);
  });
}

}  // namespace
}  // namespace sightline
