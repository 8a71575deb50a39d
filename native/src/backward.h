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

#include "backward_operands.h"
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
  float *query_t, *grad_context_t;        // [slab][word of d or e][slab row]
  float *query_rows, *grad_context_rows;  // [word of block rows][padded width]
  float* grad_query_t;                    // [slab][d][slab row]
  float* grad_query;                      // [kBlockRows][padded width]
  float *lse, *delta;                     // [kBlockRows]; lse in units of log 2
  float* weights;                         // [key][slab row]: scores, then weights, then rows of words
  float* grad_scores;                     // the same: grad_weights, then grad_masked, grad_scores
  float* key_words;                       // [word of keys][slab row]: grad_scores
  float* cap_slope;                       // [key][slab row]: 1 - tanh^2
  uint64_t* streams;                      // of the dropout pattern
};

template <class Products>
BackwardScratch take_backward(const sightline_problem& p, Scratch& scratch) {
  const int64_t width = padded_width(p.width), value_width = padded_width(p.value_width);
  constexpr int64_t kTile = kMaxChunkKeys * kSlabRows;
  BackwardScratch backward = {};
  backward.ranges = take_ranges(p, scratch);
  backward.stages = take_stages(p, scratch);
  backward.query_t = scratch.take<float>(words<Products>(p.width) * kBlockRows);
  backward.grad_context_t = scratch.take<float>(words<Products>(p.value_width) * kBlockRows);
  backward.query_rows = scratch.take<float>(width * words<Products>(kBlockRows));
  backward.grad_context_rows = scratch.take<float>(value_width * words<Products>(kBlockRows));
  backward.grad_query_t = scratch.take<float>(p.width * kBlockRows);
  backward.grad_query = scratch.take<float>(width * kBlockRows);
  backward.lse = scratch.take<float>(kBlockRows);
  backward.delta = scratch.take<float>(kBlockRows);
  backward.weights = scratch.take<float>(kTile);
  backward.grad_scores = scratch.take<float>(kTile + 2 * kLanes);
  if (backward.grad_scores) backward.grad_scores += kLanes;  // sum_diagonals reads on both sides
  backward.key_words = backward.grad_scores;
  if (Products::kElements > 1) backward.key_words = scratch.take<float>(kTile / Products::kElements);
  if (p.softcap > 0) backward.cap_slope = scratch.take<float>(kTile);
  backward.streams = take_streams(p, scratch);
  return backward;
}

// One block in work: what does not change from patch to patch.
struct BackwardBlock {
  const Block& block;
  const Terms& terms;
  const BackwardOperands& operands;
  const BackwardScratch& scratch;
  const Dropout& dropout;
  const KeySums& key_sums;
  const TermSums& term_sums;
  Ahead& ahead;
  bool bias_alone;  // each entry of the bias' gradient is written once and by nobody else
  bool query;       // wanted
  bool scores;      // the gradient of scores is wanted, for whatever lies behind it
  bool bare;        // it is, and no stage or bias term stands between weights and scores
};

// --- Start and end of a block ---

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
void load_block(const BackwardBlock& x, const Rows& grad_context) {
  const Block& block = x.block;
  const BackwardScratch& s = x.scratch;
  pack_block<Products>(block, block.query, block.width, x.terms.query_factor, s.query_t);
  if (x.key_sums.key) load_rows(Products(), block.query, block.count, block.width, s.query_rows);
  if (x.scores) pack_block<Products>(block, grad_context, block.value_width, 1.0f, s.grad_context_t);
  if (x.key_sums.value) {
    load_rows(Products(), grad_context, block.count, block.value_width, s.grad_context_rows);
  }
  if (x.query) memset(s.grad_query_t, 0, sizeof(float) * block.width * kBlockRows);
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
  const float sink = to_log2(p.sinks[block.h * p.sink_stride]);
  for (int row = 0; row < block.count; row++) {
    if (s.lse[row] != kInfinity) sinks[block.h] -= (double)exp2f(sink - s.lse[row]) * s.delta[row];
  }
}

inline void write_grad_query(const Block& block, const sightline_gradients& g, const BackwardScratch& s) {
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

// --- One patch ---

// Scores are products divided by the cap here, as the query was packed.
inline void cap_keeping_slope(const Terms& terms, const Patch& patch, float* slope, float* scores) {
  for_vectors(patch, scores, [&](int k, int v, Vec s) {
    const Vec t = tanh(s);
    store(slope + k * kSlabRows + v * kLanes, splat(1.0f) - t * t);
    return splat(terms.cap) * t;
  });
}

template <class Products, int vectors>
void masked_patch(const BackwardBlock& x, const Patch& patch, const Place& place, const float* query_t,
                  const uint8_t* visible) {
  const BackwardScratch& s = x.scratch;
  const WordRows& key = x.operands.key;
  Vec unused[kSlabVectors] = {};
  scores_product<vectors, Products>(key.row(place.key), key.stride, patch.keys, query_t,
                                    words<Products>(x.block.width), s.weights, unused, x.ahead,
                                    x.terms.query_factor);
  if (!x.terms.any && !patch.edge) return;
  Terms terms = x.terms;
  if (terms.cap != 0) cap_keeping_slope(terms, patch, s.cap_slope, s.weights);
  terms.cap = 0;
  apply_stages(x.block, terms, s.ranges, patch, place, s.stages, s.weights, visible, unused);
}

// masked -> weights, and grad_weights -> grad_masked, in place. Dropped weights become 0, but pass on what
// the row's sum sends back to them.
template <int vectors, bool scores, class Keep>
void weigh_gradients(const BackwardScratch& s, const Patch& patch, const Place& place, const Keep& keep) {
  Vec lse[vectors], delta[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    lse[v] = load(s.lse + place.row + v * kLanes);
    delta[v] = load(s.delta + place.row + v * kLanes);
  }
#pragma GCC unroll 1
  for (int k = 0; k < patch.keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float *w = s.weights + k * kSlabRows + v * kLanes, *g = s.grad_scores + k * kSlabRows + v * kLanes;
      const Vec weight = exp2(load(w) - lse[v]), kept_weight = keep(weight, k, v);
      // weight * grad_weight with dropout is kept_weight * grad_weight without.
      if (scores) store(g, kept_weight * load(g) - weight * delta[v]);
      store(w, kept_weight);
    }
  }
}

// grad_masked -> gradients of the bias terms, and grad_scores in place.
inline void pass_stages(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  const TermSums& sums = x.term_sums;
  const MaskedGradient grad = {patch, place, s.grad_scores, x.bias_alone};
  if (sums.bias) add_bias_gradient(x.block, sums, grad);
  if (sums.slopes || sums.table) add_position_gradients(x.block, x.terms, sums, grad, s.stages.strip);
  if (x.terms.cap == 0) return;
  for_vectors(patch, s.grad_scores,
              [&](int k, int v, Vec g) { return g * load(s.cap_slope + k * kSlabRows + v * kLanes); });
}

// [key][slab row] -> [word of keys][slab row].
template <class Products, int vectors>
void round_keys(const float* from, int keys, float* to) {
  for (int k = 0; k < keys; k += 2, from += 2 * kSlabRows, to += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec second = k + 1 < keys ? load(from + kSlabRows + v * kLanes) : Vec{};
      store(to + v * kLanes, Products::join({load(from + v * kLanes), second}));
    }
  }
}

// [key][slab row] -> [key][word of slab rows], in place: the front of each row.
template <class Products, int vectors>
void round_queries(float* rows, int keys) {
  for (int k = 0; k < keys; k++, rows += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v += 2) {
      const Vec second = v + 1 < vectors ? load(rows + (v + 1) * kLanes) : Vec{};
      store(rows + v / 2 * kLanes, Products::line_up({load(rows + v * kLanes), second}));
    }
  }
}

// Weights and grad_scores as words: along queries, in place, and grad_scores also along keys.
template <class Products, int vectors>
void round_patch(const BackwardBlock& x, const Patch& patch) {
  const BackwardScratch& s = x.scratch;
  if constexpr (Products::kElements == 2) {
    if (x.query) round_keys<Products, vectors>(s.grad_scores, patch.keys, s.key_words);
    if (x.key_sums.key) round_queries<Products, vectors>(s.grad_scores, patch.keys);
    if (x.key_sums.value) round_queries<Products, vectors>(s.weights, patch.keys);
  }
}

// Both at once, where nothing stands between: masked and grad_weights straight to words. `keys` is 1 or 2.
template <class Products, int vectors, class Keep>
SL_INLINE void weigh_words(const BackwardScratch& s, int key, int keys, const Vec* lse, const Vec* delta,
                           const Keep& keep) {
  float *weights = s.weights + key * kSlabRows, *grads = s.grad_scores + key * kSlabRows;
  float* key_words = s.key_words + key / 2 * kSlabRows;
  SL_UNROLL for (int first = 0; first < vectors; first += 2) {
    Vec w[2][2] = {}, g[2][2] = {};  // [key][vector]
    SL_UNROLL for (int i = 0; i < 4; i++) {
      const int k = i / 2, v = first + i % 2;
      if (k >= keys || v >= vectors) continue;
      const int at = k * kSlabRows + v * kLanes;
      const Vec weight = exp2(load(weights + at) - lse[v]);
      w[k][v - first] = keep(weight, key + k, v);
      g[k][v - first] = w[k][v - first] * load(grads + at) - weight * delta[v];
    }
    SL_UNROLL for (int k = 0; k < keys; k++) {
      store(weights + k * kSlabRows + first / 2 * kLanes, Products::line_up(w[k]));
      store(grads + k * kSlabRows + first / 2 * kLanes, Products::line_up(g[k]));
    }
    SL_UNROLL for (int v = 0; v < 2; v++) {
      if (first + v < vectors) store(key_words + (first + v) * kLanes, Products::join({g[0][v], g[1][v]}));
    }
  }
}

template <class Products, int vectors, class Keep>
void weigh_to_words(const BackwardScratch& s, const Patch& patch, const Place& place, const Keep& keep) {
  Vec lse[vectors], delta[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    lse[v] = load(s.lse + place.row + v * kLanes);
    delta[v] = load(s.delta + place.row + v * kLanes);
  }
  int k = 0;
#pragma GCC unroll 1
  for (; k + 2 <= patch.keys; k += 2) weigh_words<Products, vectors>(s, k, 2, lse, delta, keep);
  if (k < patch.keys) weigh_words<Products, vectors>(s, k, 1, lse, delta, keep);
}

template <class Products>
void add_key_gradients(const BackwardBlock& x, const Patch& patch, const Place& place) {
  const BackwardScratch& s = x.scratch;
  const int64_t width = padded_width(x.block.width), value_width = padded_width(x.block.value_width);
  const int queries = (int)words<Products>(place.rows), row = place.row / Products::kElements;
  if (x.key_sums.value) {
    keys_product<Products>({s.weights, queries, s.grad_context_rows + row * value_width,
                            x.key_sums.value + place.key * value_width, value_width},
                           patch.keys);
  }
  if (x.key_sums.key) {
    keys_product<Products>(
        {s.grad_scores, queries, s.query_rows + row * width, x.key_sums.key + place.key * width, width},
        patch.keys);
  }
}

template <class Products, int vectors>
void add_query_gradient(const BackwardBlock& x, const Patch& patch, const Place& place, int slab) {
  const WordRows& key = x.operands.key_columns;
  const int64_t width = x.block.width;
  Vec stay[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) stay[v] = splat(1.0f);
  context_product<vectors, Products>(
      key.row(place.key / Products::kElements), key.stride, width, x.scratch.key_words,
      (int)words<Products>(patch.keys),
      x.scratch.grad_query_t + slab * width * kSlabRows + patch.vector * kLanes, stay);
}

template <class Products, int vectors>
void weigh_patch(const BackwardBlock& x, const Patch& patch, const Place& place, int slab) {
  const BackwardScratch& s = x.scratch;
  const int64_t columns = words<Products>(x.block.value_width);
  if (x.scores) {
    Vec unused[kSlabVectors] = {};
    const WordRows& value = x.operands.value;
    scores_product<vectors, Products>(value.row(place.key), value.stride, patch.keys,
                                      s.grad_context_t + slab * columns * kSlabRows + patch.vector * kLanes,
                                      columns, s.grad_scores, unused, x.ahead);
  }
  with_keep(x.dropout, place, [&](const auto& keep) {
    if constexpr (Products::kElements == 2) {
      if (x.bare) return weigh_to_words<Products, vectors>(s, patch, place, keep);
    }
    if (x.scores) return weigh_gradients<vectors, true>(s, patch, place, keep);
    weigh_gradients<vectors, false>(s, patch, place, keep);
  });
  if (x.bare) return;
  if (x.scores) pass_stages(x, patch, place);
  round_patch<Products, vectors>(x, patch);
}

template <class Products, int vectors>
void backward_patch(const BackwardBlock& x, const Patch& patch, const Place& place, int slab,
                    const uint8_t* visible) {
  const int64_t columns = words<Products>(x.block.width);
  masked_patch<Products, vectors>(
      x, patch, place, x.scratch.query_t + slab * columns * kSlabRows + patch.vector * kLanes, visible);
  weigh_patch<Products, vectors>(x, patch, place, slab);
  add_key_gradients<Products>(x, patch, place);
  if (x.query) add_query_gradient<Products, vectors>(x, patch, place, slab);
}

template <class Products>
void backward_chunk(const BackwardBlock& x, Span chunk, bool last, int slab) {
  const BackwardScratch& s = x.scratch;
  Patch patches[kMaxPatches];
  const int count =
      make_patches(s.ranges, slab * kSlabVectors, slab_vectors(x.block, slab), chunk, last, patches);
  for (int i = 0; i < count; i++) {
    const Patch& patch = patches[i];
    const Place place = place_of(x.block, patch, slab, chunk.begin);
    uint8_t* visible = x.terms.visible.data ? s.stages.visible : nullptr;
    if (visible && !fetch_visible(x.terms.visible, patch, place, visible)) continue;
    with_vectors(patch.vectors,
                 [&](auto n) { backward_patch<Products, n.value>(x, patch, place, slab, visible); });
  }
}

// What the block after this one will be the first to read, and where this one will write.
template <class Products>
Ahead rows_ahead(const Block& block, const BackwardOperands& operands, const BackwardScratch& s,
                 const sightline_gradients& g, const Rows& context, const Rows& grad_context) {
  Ahead ahead;
  const auto add = [&](const Rows& rows, int64_t count, int64_t width) {
    ahead.add(rows.data, rows.bytes(rows.stride), count, rows.bytes(width));
  };
  const int64_t next = smaller<int64_t>(kBlockRows, block.problem->queries - block.first - block.count);
  if (g.query) add(block_rows_of(block, g.query, g.query_stride), block.count, block.width);
  add(block.query.from(block.count), next, block.width);
  add(grad_context.from(block.count), next, block.value_width);
  add(context.from(block.count), next, block.value_width);
  const int64_t end = last_key(s.ranges), more = smaller<int64_t>(kBlockRows, block.keys - end);
  const auto add_words = [&](const WordRows& rows, int64_t width) {
    ahead.add(rows.row(end), rows.stride * sizeof(float), more, width * sizeof(float));
  };
  add_words(operands.key, words<Products>(block.width));
  add_words(operands.value, words<Products>(block.value_width));
  return ahead;
}

template <class Products>
void backward_block_with(const sightline_problem& p, const float* packed, const sightline_gradients& g,
                         int64_t b, int64_t h, int64_t first, void* memory, const KeySums& key_sums,
                         const TermSums& term_sums) {
  Scratch carver(memory);
  BackwardScratch scratch = take_backward<Products>(p, carver);
  const Block block = make_block(p, b, h, first);
  const Terms terms = make_terms(block);
  const BackwardOperands operands = find_backward_operands<Products>(block, packed);
  read_ranges(block, scratch.ranges);
  const Dropout dropout = make_dropout(block, scratch.streams);
  const bool scores = g.query || key_sums.key || term_sums.bias || term_sums.slopes || term_sums.table;
  const bool bias_alone = writes_bias_once(terms, scratch.ranges, term_sums);
  const bool bare = scores && terms.cap == 0 && !term_sums.bias && !term_sums.slopes && !term_sums.table;
  const Rows grad_context = block_rows_of(block, g.grad_context, g.grad_context_stride);
  const Rows context = block_rows_of(block, g.context, g.context_stride);
  Ahead ahead = rows_ahead<Products>(block, operands, scratch, g, context, grad_context);
  const BackwardBlock x = {block, terms,      operands,           scratch, dropout, key_sums, term_sums,
                           ahead, bias_alone, g.query != nullptr, scores,  bare};
  with_element(p.dtype, [&](auto e) { sum_delta(block, context, grad_context, e, scratch.delta); });
  start_lse(block, g, scratch);
  if (term_sums.sinks) add_sink_gradient(block, scratch, term_sums.sinks);
  if (term_sums.bias && term_sums.clear_bias && !bias_alone) clear_bias_rows(block, term_sums);
  if (!scores && !key_sums.value) return;
  load_block<Products>(x, grad_context);
  for_chunks(scratch.ranges, [&](Span chunk, bool last) {
    for (int slab = 0; slab < slabs(block); slab++) backward_chunk<Products>(x, chunk, last, slab);
  });
  if (g.query) write_grad_query(block, g, scratch);
}

size_t backward_scratch(const sightline_problem& p) {
  return with_products(p.dtype, [&](auto products) {
    Scratch counter(nullptr);
    take_backward<decltype(products)>(p, counter);
    return counter.used();
  });
}

void backward_block(const sightline_problem& p, const float* packed, const sightline_gradients& g, int64_t b,
                    int64_t h, int64_t first, void* memory, const KeySums& key_sums,
                    const TermSums& term_sums) {
  with_products(p.dtype, [&](auto products) {
    backward_block_with<decltype(products)>(p, packed, g, b, h, first, memory, key_sums, term_sums);
  });
}

}  // namespace
}  // namespace sightline
