// Start and end of a block's backward pass: its rows as the products read them, delta, and the gradients that
// rows have by themselves.
#pragma once

#include <cmath>

#include "per_level/backward/scratch.h"
#include "per_level/products/rows.h"
#include "per_level/stages/scores.h"

namespace sightline {
namespace {

SL_INLINE Rows block_rows_of(const Block& block, const void* data, const int64_t (&stride)[3]) {
  return head_rows(data, stride, block.problem->dtype, block.b, block.h, block.first);
}

// Rows as words, transposed; times the factor where the products want it there.
template <class Products>
void pack_block(const Block& block, const Rows& rows, int64_t width, float factor, float* to) {
  const int64_t columns = words<Products>(width);
  const auto pack = [&](const auto& from, int slab) {
    transpose_in(from, smaller(kSlabRows, block.count - slab * kSlabRows), columns, slab_vectors(block, slab),
                 to + slab * columns * kSlabRows, kSlabRows);
  };
  for (int slab = 0; slab < slabs(block); slab++) {
    if constexpr (Products::kElements == 2) {
      pack(PairedRows{rows.at<Bfloat16>(slab * kSlabRows), rows.stride, width}, slab);
    } else {
      with_element(rows.dtype, [&](auto element) {
        typedef decltype(element) Element;
        pack(ScaledRows<Element>{rows.at<Element>(slab * kSlabRows), rows.stride, factor}, slab);
      });
    }
  }
}

template <class Products>
void load_query(const BackwardBlock& x) {
  const Block& block = x.block;
  const Zone zone(block.zones, SIGHTLINE_STAGE_SCORES);
  pack_block<Products>(block, block.query, block.width, x.terms.query_factor, x.scratch.query_t);
}

template <class Products>
void load_grad_context(const BackwardBlock& x, const Rows& grad_context) {
  const Block& block = x.block;
  const Zone zone(block.zones, gradient_of(SIGHTLINE_STAGE_CONTEXT));
  if (x.scores) pack_block<Products>(block, grad_context, block.value_width, 1.0f, x.scratch.grad_context_t);
  if (x.key_sums.value) {
    load_rows(Products(), grad_context, block.count, block.value_width, x.scratch.grad_context_rows);
  }
}

// What the gradients of keys and queries need.
template <class Products>
void start_grad_scores(const BackwardBlock& x) {
  const Block& block = x.block;
  const Zone zone(block.zones, gradient_of(SIGHTLINE_STAGE_SCORES));
  if (x.key_sums.key) load_rows(Products(), block.query, block.count, block.width, x.scratch.query_rows);
  if (x.query) memset(x.scratch.grad_query_t, 0, sizeof(float) * block.width * kBlockRows);
}

template <class Element>
void sum_delta(const Block& block, const Rows& context, const Rows& grad_context, Element, float* delta) {
  const int64_t width = block.value_width, whole = width / kLanes * kLanes;
  for (int row = 0; row < block.count; row++) {
    const Element *c = context.at<Element>(row), *g = grad_context.at<Element>(row);
    Vec sum = {};
    for (int64_t e = 0; e < whole; e += kLanes) sum = fma(load(c + e), load(g + e), sum);
    const int rest = (int)(width - whole);
    if (rest) sum = fma(load_part(c + whole, rest), load_part(g + whole, rest), sum);
    delta[row] = sum_of_lanes(sum);
  }
}

// A row with nothing to look at has lse -infinity; +infinity makes all its weights 0, as it does for the
// lanes past the last query.
inline void start_lse(const Block& block, const sightline_gradients& g, const BackwardScratch& s) {
  for (int row = 0; row < kBlockRows; row++) {
    const bool real = row < block.count;
    const float lse = real ? g.lse[block.out_row() + row] : -kInfinity;
    s.lse[row] = lse == -kInfinity ? kInfinity : to_log2(lse);
    if (!real) s.delta[row] = 0;
    if (real && g.grad_lse) s.delta[row] -= g.grad_lse[block.out_row() + row];
  }
}

// exp(sink - lse) is the sink's own weight, and it has no value: its gradient is -weight * delta.
inline void add_sink_gradient(const Block& block, const BackwardScratch& s, double* sinks) {
  const sightline_problem& p = *block.problem;
  const float sink = to_log2(p.sinks[block.h * p.sinks_stride[0]]);
  for (int row = 0; row < block.count; row++) {
    if (s.lse[row] != kInfinity) sinks[block.h] -= (double)exp2f(sink - s.lse[row]) * s.delta[row];
  }
}

// delta and lse, and what the sink alone depends on.
inline void start_weights(const BackwardBlock& x, const sightline_gradients& g, const Rows& context,
                          const Rows& grad_context) {
  const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_WEIGHTS));
  with_element(x.block.problem->dtype,
               [&](auto element) { sum_delta(x.block, context, grad_context, element, x.scratch.delta); });
  start_lse(x.block, g, x.scratch);
  if (x.term_sums.sinks) add_sink_gradient(x.block, x.scratch, x.term_sums.sinks);
}

inline void write_grad_query(const Block& block, const sightline_gradients& g, const BackwardScratch& s) {
  const Zone zone(block.zones, gradient_of(SIGHTLINE_STAGE_SCORES));
  const int64_t width = block.width, stride = padded_width(width);
  const int32_t dtype = block.problem->dtype;
  for (int v = 0; v < block.vectors(); v++) {
    transpose_out(s.grad_query_t + v / kSlabVectors * width * kSlabRows + v % kSlabVectors * kLanes,
                  kSlabRows, splat(1.0f), width, smaller(kLanes, block.count - v * kLanes),
                  s.grad_query + v * kLanes * stride, stride);
  }
  char* to = static_cast<char*>(g.query) +
             element_bytes(dtype) * (block.b * g.query_stride[0] + block.h * g.query_stride[1] +
                                     block.first * g.query_stride[2]);
  store_rows(s.grad_query, block.problem->scale, block.count, width, to, dtype, g.query_stride[2]);
}

}  // namespace
}  // namespace sightline
