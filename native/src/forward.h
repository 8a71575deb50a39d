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

inline ForwardScratch take_forward(const sightline_problem& p, Scratch& scratch) {
  ForwardScratch forward;
  forward.scores = take_scores(p, scratch);
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

// masked -> weights in place, for one patch.
template <int vectors>
void exponentiate(float* scores, int keys, const Vec* shift, Vec* sums) {
  Vec subtract[vectors], sum[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) subtract[v] = shift[v], sum[v] = sums[v];
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float* s = scores + k * kSlabRows + v * kLanes;
      const Vec weight = exp2(load(s) - subtract[v]);
      sum[v] += weight;
      store(s, weight);
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) sums[v] = sum[v];
}

// Turns the chunk's scores into weights, and moves m and l on. `decay` is what older sums shrink by.
inline void weigh_chunk(const ForwardScratch& scratch, const ChunkScores& chunk, int slab, Vec* decay) {
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
    with_vectors(patch.vectors, [&](auto n) {
      exponentiate<n.value>(scores_of(scratch.scores, patch), patch.keys, shift + patch.vector,
                            sums + patch.vector);
    });
  }
  for (int v = 0; v < kSlabVectors; v++) {
    store(sum + v * kLanes, fma(load(sum + v * kLanes), decay[v], sums[v]));
  }
}

// context = context * decay + weights . value; the first patch that touches a vector applies its decay.
inline void add_context(const Block& block, const ForwardScratch& scratch, const ChunkScores& chunk,
                        int64_t chunk_begin, int slab, Vec* decay) {
  float* context_t = scratch.context_t + slab * block.value_width * kSlabRows;
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    with_vectors(patch.vectors, [&](auto n) {
      context_product<n.value>(block.value.row(chunk_begin + patch.key), block.value.stride,
                               block.value_width, scores_of(scratch.scores, patch), patch.keys,
                               context_t + patch.vector * kLanes, decay + patch.vector);
    });
    for (int v = 0; v < patch.vectors; v++) decay[patch.vector + v] = splat(1.0f);
  }
}

// The sum of a row's weights is that of all of them; only those kept meet their values.
inline void drop_chunk(const Block& block, const Dropout& dropout, const ForwardScratch& scratch,
                       const ChunkScores& chunk, int64_t chunk_begin, int slab) {
  for (int i = 0; i < chunk.count; i++) {
    const Patch& patch = chunk.patches[i];
    drop_weights(dropout, patch, place_of(block, patch, slab, chunk_begin), scores_of(scratch.scores, patch));
  }
}

inline void forward_chunk(const Block& block, const Terms& terms, const Dropout& dropout,
                          const ForwardScratch& scratch, Span chunk, bool last, bool want_context) {
  for (int slab = 0; slab < slabs(block); slab++) {
    ChunkScores scores;
    score_chunk(block, terms, scratch.scores, chunk, last, slab, scores);
    if (scores.count == 0) continue;
    Vec decay[kSlabVectors];
    weigh_chunk(scratch, scores, slab, decay);
    if (want_context && dropout.any) drop_chunk(block, dropout, scratch, scores, chunk.begin, slab);
    if (want_context) add_context(block, scratch, scores, chunk.begin, slab, decay);
  }
}

inline void write_context(const Block& block, const ForwardScratch& scratch, const ForwardOut& out) {
  float* context = out.context + block.b * out.context_stride[0] + block.h * out.context_stride[1] +
                   block.first * out.context_stride[2];
  for (int v = 0; v < block.vectors(); v++) {
    const Vec sum = load(scratch.sum + v * kLanes);
    const Vec inverse = select(equal(sum, Vec{}), Vec{}, splat(1.0f) / sum);
    const int slab = v / kSlabVectors;
    transpose_out(scratch.context_t + slab * block.value_width * kSlabRows + v % kSlabVectors * kLanes,
                  kSlabRows, inverse, block.value_width, smaller(kLanes, block.count - v * kLanes),
                  context + v * kLanes * out.context_stride[2], out.context_stride[2]);
  }
}

inline void write_lse(const Block& block, const ForwardScratch& scratch, float* lse) {
  for (int row = 0; row < block.count; row++) {
    const float sum = scratch.sum[row];
    lse[block.out_row() + row] = sum == 0 ? -kInfinity : from_log2(scratch.highest[row] + log2f(sum));
  }
}

// The rows of the context that this block will write, and what the block after it will be the first to read.
inline Ahead rows_ahead(const Block& block, const Ranges& ranges, const ForwardOut& out) {
  Ahead ahead;
  if (out.context) {
    ahead.add(out.context + block.b * out.context_stride[0] + block.h * out.context_stride[1] +
                  block.first * out.context_stride[2],
              out.context_stride[2], block.count, block.value_width);
  }
  const int64_t next = smaller<int64_t>(kBlockRows, block.problem->queries - block.first - block.count);
  ahead.add(block.query.row(block.count), block.query.stride, next, block.width);
  const int64_t end = last_key(ranges);
  const int64_t more = smaller<int64_t>(kBlockRows, block.keys - end);
  ahead.add(block.key.row(end), block.key.stride, more, block.width);
  if (out.context) ahead.add(block.value.row(end), block.value.stride, more, block.value_width);
  return ahead;
}

size_t forward_scratch(const sightline_problem& p) {
  Scratch counter(nullptr);
  take_forward(p, counter);
  return counter.used();
}

void forward_block(const sightline_problem& p, int64_t b, int64_t h, int64_t first, void* memory,
                   const ForwardOut& out) {
  Scratch carver(memory);
  ForwardScratch scratch = take_forward(p, carver);
  const Block block = make_block(p, b, h, first);
  const Terms terms = make_terms(block);
  read_ranges(block, scratch.scores.ranges);
  Ahead ahead = rows_ahead(block, scratch.scores.ranges, out);
  scratch.scores.ahead = &ahead;
  pack_query(block, terms, scratch.scores.query_t);
  start_rows(block, scratch);
  const Dropout dropout = make_dropout(block, scratch.streams);
  for_chunks(scratch.scores.ranges, [&](Span chunk, bool last) {
    forward_chunk(block, terms, dropout, scratch, chunk, last, out.context != nullptr);
  });
  if (out.context) write_context(block, scratch, out);
  if (out.lse) write_lse(block, scratch, out.lse);
}

}  // namespace
}  // namespace sightline
