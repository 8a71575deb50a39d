// The backward pass of one block of queries, by recomputation, one patch of S^T after another:
//
//   weights      = 2^(masked - lse)                      dropout multiplies the weights that met the values
//   grad_weights = value . grad_context^T                and their gradient
//   grad_masked  = weights * (grad_weights - delta),     delta = sum_e context * grad_context - grad_lse
//   grad_scores  = grad_masked * (1 - tanh^2)            where scores are capped; scale follows at the end
//   grad_value  += weights . grad_context;  grad_key += grad_scores . query;  grad_query += key^T .
//   grad_scores
//
// lse is known, so there is no running maximum and nothing is rescaled. What is summed over queries stays in
// float32 sums that the caller keeps (KeySums, TermSums).
#pragma once

#include <cmath>

#include "bias_gradients.h"
#include "dropout.h"
#include "key_tiles.h"
#include "rows.h"
#include "scores.h"

namespace sightline {
namespace {

struct BackwardScratch {
  Ranges ranges;
  StageScratch stages;
  float *query_t, *grad_context_t;        // [slab][d or e][slab row]; the query scaled as in Terms
  float *query_rows, *grad_context_rows;  // [kBlockRows][padded width]
  float* grad_query_t;                    // [slab][d][slab row]
  float *lse, *delta;                     // [kBlockRows]; lse in units of log 2
  float* weights;                         // [key][slab row]: scores, then weights
  float* grad_scores;                     // [key][slab row]: grad_weights, then grad_masked, grad_scores
  float* cap_slope;                       // [key][slab row]: 1 - tanh^2
  uint64_t* streams;                      // of the dropout pattern
};

inline BackwardScratch take_backward(const sightline_problem& p, Scratch& scratch) {
  const int64_t width = padded_width(p.width), value_width = padded_width(p.value_width);
  constexpr int64_t kTile = kMaxChunkKeys * kSlabRows;
  BackwardScratch backward = {};
  backward.ranges = take_ranges(p, scratch);
  backward.stages = take_stages(p, scratch);
  backward.query_t = scratch.take<float>(width * kBlockRows);
  backward.grad_context_t = scratch.take<float>(value_width * kBlockRows);
  backward.query_rows = scratch.take<float>(width * kBlockRows);
  backward.grad_context_rows = scratch.take<float>(value_width * kBlockRows);
  backward.grad_query_t = scratch.take<float>(width * kBlockRows);
  backward.lse = scratch.take<float>(kBlockRows);
  backward.delta = scratch.take<float>(kBlockRows);
  backward.weights = scratch.take<float>(kTile);
  backward.grad_scores = scratch.take<float>(kTile + 2 * kLanes);
  if (backward.grad_scores) backward.grad_scores += kLanes;  // sum_diagonals reads on both sides
  if (p.softcap > 0) backward.cap_slope = scratch.take<float>(kTile);
  backward.streams = take_streams(p, scratch);
  return backward;
}

// One block in work: what does not change from patch to patch.
struct BackwardBlock {
  const Block& block;
  const Terms& terms;
  const BackwardScratch& scratch;
  const Dropout& dropout;
  const KeySums& key_sums;
  const TermSums& term_sums;
  bool query;   // wanted
  bool scores;  // the gradient of scores is wanted, for whatever lies behind it
};

// --- Start and end of a block ---

// Q^T or grad_context^T, from padded rows.
inline void pack_rows(const Block& block, const float* rows, int64_t width, float factor, float* to) {
  const int64_t stride = padded_width(width);
  for (int slab = 0; slab < slabs(block); slab++) {
    const int row = slab * kSlabRows;
    transpose_in(rows + row * stride, stride, smaller(kSlabRows, block.count - row), width,
                 slab_vectors(block, slab), factor, to + slab * width * kSlabRows, kSlabRows);
  }
}

template <class Element>
SL_INLINE Element* rows_of(const Block& block, Element* base, const int64_t (&stride)[3]) {
  return base + block.b * stride[0] + block.h * stride[1] + block.first * stride[2];
}

template <class Element>
inline void load_block(const Block& block, const sightline_gradients& g, Element, const BackwardScratch& s) {
  const sightline_problem& p = *block.problem;
  const auto* query = rows_of(block, static_cast<const Element*>(p.query), p.query_stride);
  const auto* grad = rows_of(block, static_cast<const Element*>(g.grad_context), g.grad_context_stride);
  const auto* context = rows_of(block, static_cast<const Element*>(g.context), g.context_stride);
  load_rows(query, p.query_stride[2], block.count, p.width, s.query_rows);
  load_rows(grad, g.grad_context_stride[2], block.count, p.value_width, s.grad_context_rows);
  const int64_t stride = padded_width(p.value_width);
  for (int row = 0; row < block.count; row++, context += g.context_stride[2]) {
    Vec sum = {};
    for (int64_t e = 0; e < p.value_width; e += kLanes) {
      const int columns = (int)smaller<int64_t>(kLanes, p.value_width - e);
      sum = fma(load_part(context + e, columns), load(s.grad_context_rows + row * stride + e), sum);
    }
    s.delta[row] = sum_of_lanes(sum);
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
  const float sink = to_log2(p.sinks[block.h * p.sink_stride]);
  for (int row = 0; row < block.count; row++) {
    if (s.lse[row] != kInfinity) sinks[block.h] -= (double)exp2f(sink - s.lse[row]) * s.delta[row];
  }
}

template <class Element>
inline void write_grad_query(const Block& block, const sightline_gradients& g, Element,
                             const BackwardScratch& s) {
  const int64_t width = block.width, stride = padded_width(width);
  for (int v = 0; v < block.vectors(); v++) {
    transpose_out(s.grad_query_t + v / kSlabVectors * width * kSlabRows + v % kSlabVectors * kLanes,
                  kSlabRows, splat(1.0f), width, smaller(kLanes, block.count - v * kLanes),
                  s.query_rows + v * kLanes * stride, stride);
  }
  store_rows(s.query_rows, block.problem->scale, block.count, width,
             rows_of(block, static_cast<Element*>(g.query), g.query_stride), g.query_stride[2]);
}

// --- One patch ---

// Scores are products divided by the cap here, as the query was packed.
inline void cap_keeping_slope(const Terms& terms, const Patch& patch, float* slope, float* scores) {
  for_vectors(patch, scores, [&](int k, int v, Vec s) {
    const Vec t = tanh(s);
    store(slope + k * kSlabRows + v * kLanes, splat(1.0f) - t * t);
    return splat(terms.cap) * t;
  });
}

inline void masked_patch(const BackwardBlock& x, const Patch& patch, const Place& place, const float* query_t,
                         const uint8_t* visible) {
  const BackwardScratch& s = x.scratch;
  Vec unused[kSlabVectors] = {};
  Ahead nothing_ahead;
  with_vectors(patch.vectors, [&](auto n) {
    scores_product<n.value>(x.block.key.row(place.key), x.block.key.stride, patch.keys, query_t,
                            x.block.width, s.weights, unused, nothing_ahead);
  });
  if (!x.terms.any && !patch.edge) return;
  Terms terms = x.terms;
  if (terms.cap != 0) cap_keeping_slope(terms, patch, s.cap_slope, s.weights);
  terms.cap = 0;
  apply_stages(x.block, terms, s.ranges, patch, place, s.stages, s.weights, visible, unused);
}

// masked -> weights, and grad_weights -> grad_masked, in place.
template <int vectors, bool scores, bool dropping>
void weigh_gradients(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  Vec lse[vectors], delta[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    lse[v] = load(s.lse + place.row + v * kLanes);
    delta[v] = load(s.delta + place.row + v * kLanes);
  }
#pragma GCC unroll 1
  for (int k = 0; k < patch.keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float *w = s.weights + k * kSlabRows + v * kLanes, *g = s.grad_scores + k * kSlabRows + v * kLanes;
      const Vec weight = exp2(load(w) - lse[v]);
      const Vec keep = dropping ? kept(x.dropout, place.row + v * kLanes, place.key + k) : Vec{};
      if (scores) {
        const Vec grad_weight = dropping ? load(g) * keep : load(g);
        store(g, weight * (grad_weight - delta[v]));
      }
      store(w, dropping ? weight * keep : weight);
    }
  }
}

template <int vectors>
SL_INLINE void weigh_patch(const BackwardBlock& x, const Patch& patch, const Place& place) {
  if (x.dropout.any) {
    if (x.scores) return weigh_gradients<vectors, true, true>(x, patch, place);
    return weigh_gradients<vectors, false, true>(x, patch, place);
  }
  if (x.scores) return weigh_gradients<vectors, true, false>(x, patch, place);
  weigh_gradients<vectors, false, false>(x, patch, place);
}

// grad_masked -> gradients of the bias terms, and grad_scores in place.
inline void pass_stages(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  const TermSums& sums = x.term_sums;
  const MaskedGradient grad = {patch, place, s.grad_scores};
  if (sums.bias) add_bias_gradient(x.block, sums, grad);
  if (sums.slopes || sums.table) add_position_gradients(x.block, x.terms, sums, grad, s.stages.strip);
  if (x.terms.cap == 0) return;
  for_vectors(patch, s.grad_scores,
              [&](int k, int v, Vec g) { return g * load(s.cap_slope + k * kSlabRows + v * kLanes); });
}

inline void add_key_gradients(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  const int64_t width = padded_width(x.block.width), value_width = padded_width(x.block.value_width);
  if (x.key_sums.value) {
    keys_product({s.weights, place.rows, s.grad_context_rows + place.row * value_width,
                  x.key_sums.value + place.key * value_width, value_width},
                 patch.keys);
  }
  if (x.key_sums.key) {
    keys_product({s.grad_scores, place.rows, s.query_rows + place.row * width,
                  x.key_sums.key + place.key * width, width},
                 patch.keys);
  }
}

template <int vectors>
inline void backward_patch(const BackwardBlock& x, const Patch& patch, const Place& place, int slab) {
  const Block& block = x.block;
  const BackwardScratch& s = x.scratch;
  if (x.scores) {
    Vec unused[kSlabVectors] = {};
    Ahead nothing_ahead;
    const float* grad_t = s.grad_context_t + slab * block.value_width * kSlabRows + patch.vector * kLanes;
    scores_product<vectors>(block.value.row(place.key), block.value.stride, patch.keys, grad_t,
                            block.value_width, s.grad_scores, unused, nothing_ahead);
  }
  weigh_patch<vectors>(x, patch, place);
  if (x.scores) pass_stages(x, patch, place);
  add_key_gradients(x, patch, place);
  if (!x.query) return;
  Vec stay[vectors];
  for (int v = 0; v < vectors; v++) stay[v] = splat(1.0f);
  context_product<vectors>(block.key.row(place.key), block.key.stride, block.width, s.grad_scores, patch.keys,
                           s.grad_query_t + slab * block.width * kSlabRows + patch.vector * kLanes, stay);
}

inline void backward_chunk(const BackwardBlock& x, Span chunk, bool last, int slab) {
  const BackwardScratch& s = x.scratch;
  Patch patches[kMaxPatches];
  const int count =
      make_patches(s.ranges, slab * kSlabVectors, slab_vectors(x.block, slab), chunk, last, patches);
  for (int i = 0; i < count; i++) {
    const Patch& patch = patches[i];
    const Place place = place_of(x.block, patch, slab, chunk.begin);
    uint8_t* visible = x.terms.visible.data ? s.stages.visible : nullptr;
    if (visible && !fetch_visible(x.terms.visible, patch, place, visible)) continue;
    masked_patch(x, patch, place, s.query_t + slab * x.block.width * kSlabRows + patch.vector * kLanes,
                 visible);
    with_vectors(patch.vectors, [&](auto n) { backward_patch<n.value>(x, patch, place, slab); });
  }
}

size_t backward_scratch(const sightline_problem& p, const sightline_gradients&) {
  Scratch counter(nullptr);
  take_backward(p, counter);
  return counter.used();
}

void backward_block(const sightline_problem& p, const sightline_gradients& g, int64_t b, int64_t h,
                    int64_t first, void* memory, const KeySums& key_sums, const TermSums& term_sums) {
  Scratch carver(memory);
  BackwardScratch scratch = take_backward(p, carver);
  const Block block = make_block(p, b, h, first);
  const Terms terms = make_terms(block);
  read_ranges(block, scratch.ranges);
  const Dropout dropout = make_dropout(block, scratch.streams);
  const bool scores = g.query || key_sums.key || term_sums.bias || term_sums.slopes || term_sums.table;
  const BackwardBlock x = {block, terms, scratch, dropout, key_sums, term_sums, g.query != nullptr, scores};

  load_block(block, g, float(), scratch);
  start_lse(block, g, scratch);
  if (term_sums.sinks) add_sink_gradient(block, scratch, term_sums.sinks);
  if (term_sums.bias && term_sums.clear_bias) clear_bias_rows(block, term_sums);
  if (!scores && !key_sums.value) return;
  pack_rows(block, scratch.query_rows, p.width, terms.query_factor, scratch.query_t);
  pack_rows(block, scratch.grad_context_rows, p.value_width, 1.0f, scratch.grad_context_t);
  memset(scratch.grad_query_t, 0, sizeof(float) * p.width * kBlockRows);
  for_chunks(scratch.ranges, [&](Span chunk, bool last) {
    for (int slab = 0; slab < slabs(block); slab++) backward_chunk(x, chunk, last, slab);
  });
  if (g.query) write_grad_query(block, g, float(), scratch);
}

}  // namespace
}  // namespace sightline
