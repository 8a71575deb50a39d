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
  const int64_t columns = row_words<Products>(width);
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
  if (x.scores || x.term_sums.sinks) {
    pack_block<Products>(block, grad_context, block.value_width, 1.0f, x.scratch.grad_context_t);
  }
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
  if (x.query) memset(x.scratch.grad_query_t, 0, sizeof(float) * block.width * slab_rows(block));
}

// delta, without grad_lse: summed as the products sum grad_weights, lane by lane in the order of the columns.
// Where one weight is 1, the context is that value, and both are the same to the last bit.
template <class Products>
void sum_delta(const Block& block, const Rows& context, const BackwardScratch& s) {
  const int64_t columns = row_words<Products>(block.value_width);
  const auto sum_vector = [&](const auto& rows, int v) {
    const float* grad_t =
        s.grad_context_t + v / kSlabVectors * columns * kSlabRows + v % kSlabVectors * kLanes;
    typename Products::RowSum sum;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int count = (int)smaller<int64_t>(kLanes, columns - c);
      float tile[kLanes * kLanes];
      transpose_tile(rows, v * kLanes, smaller(kLanes, block.count - v * kLanes), c, count, tile, kLanes);
      for (int i = 0; i < count; i++) {
        sum.add(load(tile + i * kLanes), load(grad_t + (c + i) * kSlabRows));
      }
      sum.close();
    }
    store(s.delta + v * kLanes, sum.sum);
  };
  for (int v = 0; v < block.vectors(); v++) {
    if constexpr (Products::kElements == 2) {
      sum_vector(PairedRows{context.at<Bfloat16>(0), context.stride, block.value_width}, v);
    } else {
      with_element(context.dtype, [&](auto element) {
        typedef decltype(element) Element;
        sum_vector(ScaledRows<Element>{context.at<Element>(0), context.stride, 1.0f}, v);
      });
    }
  }
}

// What a row that sees nothing is sent (NaN, say) reaches nobody; its context is 0.
inline void clear_delta(const Block& block, const Rows& context, float* delta) {
  with_element(context.dtype, [&](auto element) {
    typedef decltype(element) Element;
    for (int row = 0; row < block.count; row++) {
      bool nothing = true;
      for (int64_t e = 0; e < block.value_width; e++) nothing &= to_float(context.at<Element>(row) + e) == 0;
      if (nothing) delta[row] = 0;
    }
  });
}

// Whether the rows of a block are finite, and so are products of them with keys and values that are.
inline bool rows_moderate(const Block& block, const sightline_gradients& g, const Rows& grad_context) {
  const Zone zone(block.zones, gradient_of(SIGHTLINE_STAGE_WEIGHTS));
  bool numbers = true;
  for (int row = 0; row < block.count; row++) {
    const double sum = g.lse[block.out_row() + row] + (g.grad_lse ? g.grad_lse[block.out_row() + row] : 0);
    numbers &= sum < kInfinity;  // -infinity is the lse of a row that sees nothing
  }
  with_element(block.problem->dtype, [&](auto element) {
    typedef decltype(element) Element;
    const auto moderate = [&](const Rows& rows, int64_t width) {
      return all_moderate(rows.at<Element>(0), rows.stride, block.count, width);
    };
    numbers = numbers && moderate(block.query, block.width) && moderate(grad_context, block.value_width);
  });
  return numbers;
}

// The lanes past the last query weigh nothing, as a row with nothing to look at.
inline void start_lse(const Block& block, const sightline_gradients& g, const BackwardScratch& s) {
  for (int row = 0; row < slab_rows(block); row++) {
    const bool real = row < block.count;
    s.lse.set(row, real ? split_lse(g.lse[block.out_row() + row]) : kNoWeights);
    if (!real) s.delta[row] = 0;
    if (real && g.grad_lse) s.delta[row] -= g.grad_lse[block.out_row() + row];
  }
}

// exp(sink - lse) is the sink's own weight, and it has no value: its gradient is -weight * delta.
inline void add_sink_gradient(const Block& block, const BackwardScratch& s, double* sinks) {
  const sightline_problem& p = *block.problem;
  const float sink = to_log2(p.sinks[block.h * p.sinks_stride[0]]);
  for (int row = 0; row < block.count; row++) {
    if (s.lse.high[row] == kInfinity) continue;
    sinks[block.h] -= (double)exp2f(s.lse.log_weight(sink, row)) * s.delta[row];
  }
}

// grad_weights of entropy are -grad_entropy * (1 + ln weight): the constant joins delta, which sinks do not
// see.
inline void start_entropy(const Block& block, const sightline_gradients& g, const BackwardScratch& s) {
  for (int row = 0; row < slab_rows(block); row++) {
    const float grad = row < block.count ? g.grad_entropy[block.out_row() + row] : 0.0f;
    s.log_factor[row] = -kLn2 * grad;
    s.delta[row] += grad;
  }
}

// delta and lse, and what the sink alone depends on.
template <class Products>
void start_weights(const BackwardBlock& x, const sightline_gradients& g, const Rows& context) {
  const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_WEIGHTS));
  if (x.scores || x.term_sums.sinks) sum_delta<Products>(x.block, context, x.scratch);
  if (x.careful) clear_delta(x.block, context, x.scratch.delta);
  start_lse(x.block, g, x.scratch);
  if (x.term_sums.sinks) add_sink_gradient(x.block, x.scratch, x.term_sums.sinks);
  if (x.entropy) start_entropy(x.block, g, x.scratch);
}

// Whether the gradients of a block's queries are numbers.
inline bool query_numbers(const Block& block, const BackwardScratch& s) {
  const Zone zone(block.zones, gradient_of(SIGHTLINE_STAGE_SCORES));
  return all_numbers(s.grad_query_t, slab_rows(block) * block.width);
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
