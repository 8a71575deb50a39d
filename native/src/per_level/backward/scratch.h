// What the backward pass of one block works in and on.
#pragma once

#include "per_level/backward/bias_gradients.h"
#include "per_level/backward/operands.h"
#include "per_level/memory/ahead.h"
#include "per_level/stages/dropout.h"
#include "per_level/stages/lse.h"
#include "per_level/stages/patch.h"

namespace sightline {
namespace {

struct BackwardScratch {
  Ranges ranges;
  StageScratch stages;
  float *query_t, *grad_context_t;        // [slab][word of d or e][slab row]
  float *query_rows, *grad_context_rows;  // [word of block rows][padded width]
  float* grad_query_t;                    // [slab][d][slab row]
  float* grad_query;                      // [kBlockRows][padded width]
  LseRows lse;                            // [kBlockRows]
  float* delta;                           // [kBlockRows]
  float* log_factor;                      // [kBlockRows]: what log2 of a weight adds to its gradient
  float* weights;                         // [key][slab row]: scores, then weights, then rows of words
  float* grad_scores;                     // the same: grad_weights, then grad_masked, grad_scores
  float* key_words;                       // [word of keys][slab row]: grad_scores
  float* cap_slope;                       // [key][slab row]: 1 - tanh^2
  uint64_t* streams;                      // of the dropout pattern
  float *seen, *seen_keys;                // bits, as weights and key_words lie (products/seen.h)
};

template <class Products>
BackwardScratch take_backward(const sightline_problem& p, Scratch& scratch) {
  const int64_t width = padded_width(p.width), value_width = padded_width(p.value_width);
  constexpr int64_t kTile = kMaxChunkKeys * kSlabRows;
  BackwardScratch backward = {};
  backward.ranges = take_ranges<Products>(p, scratch);
  backward.stages = take_stages(p, scratch);
  backward.query_t = scratch.take<float>(row_words<Products>(p.width) * kBlockRows);
  backward.grad_context_t = scratch.take<float>(row_words<Products>(p.value_width) * kBlockRows);
  backward.query_rows = scratch.take<float>(width * words<Products>(kBlockRows));
  backward.grad_context_rows = scratch.take<float>(value_width * words<Products>(kBlockRows));
  backward.grad_query_t = scratch.take<float>(p.width * kBlockRows);
  backward.grad_query = scratch.take<float>(width * kBlockRows);
  backward.lse = take_lse(scratch);
  backward.delta = scratch.take<float>(kBlockRows);
  backward.log_factor = scratch.take<float>(kBlockRows);
  backward.weights = scratch.take<float>(kTile);
  backward.grad_scores = scratch.take<float>(kTile + 2 * kLanes);
  if (backward.grad_scores) backward.grad_scores += kLanes;  // sum_diagonals reads on both sides
  backward.key_words = backward.grad_scores;
  if (Products::kElements > 1) backward.key_words = scratch.take<float>(kTile / Products::kElements);
  if (p.softcap > 0) backward.cap_slope = scratch.take<float>(kTile);
  backward.streams = take_streams(p, scratch);
  if (!may_hide(p)) return backward;
  backward.seen = backward.seen_keys = scratch.take<float>(kTile);
  if (Products::kElements > 1) backward.seen_keys = scratch.take<float>(kTile / Products::kElements);
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
  BiasStores stores;  // of the dense bias' gradient
  bool query;         // wanted
  bool scores;        // the gradient of scores is wanted, for whatever lies behind it
  bool careful;       // something that may be hidden is not finite, or so large that products of it are not
  bool bare;          // scores are wanted, and nothing else needs their gradient than its words can give
  bool entropy;       // the gradient of the rows' entropy goes in
};

}  // namespace
}  // namespace sightline
