// What happens to a patch of S^T between the product and the softmax:
//
//   scaled -> capped -> biased -> masked
//
// Logits are kept in units of log 2 (x * log2 e), which the softmax's 2^x wants; the query is packed with
// the factor that gets there. Each stage is a pass of its own over a patch that lies in L1, and runs only
// where the problem has it.
#pragma once

#include "per_level/stages/bias.h"
#include "per_level/stages/mask.h"
#include "per_level/vectors/functions.h"

namespace sightline {
namespace {

inline void cap_scores(const Terms& terms, const Patch& patch, float* scores) {
  const Vec cap = splat(terms.cap);
  for_vectors(patch, scores, [&](int, int, Vec s) { return cap * tanh(s); });
}

inline void raise_highest(const Patch& patch, const float* scores, Vec* highest) {
  for (int k = 0; k < patch.keys; k++) {
    for (int v = 0; v < patch.vectors; v++) {
      highest[v] = max_of(highest[v], load(scores + k * kSlabRows + v * kLanes));
    }
  }
}

// All stages of one patch, in order; `highest` is raised to what they leave.
inline void apply_stages(const Block& block, const Terms& terms, const Ranges& ranges, const Patch& patch,
                         const Place& place, const StageScratch& scratch, float* scores,
                         const uint8_t* visible, Vec* highest) {
  if (terms.cap != 0) cap_scores(terms, patch, scores);
  if (terms.positions) add_positions(block, terms, patch, place, scratch.strip, scores);
  if (block.problem->bias) {
    with_element(block.problem->bias_dtype, [&](auto element) {
      typedef decltype(element) Element;
      const auto plane = plane_of<Element>(block, block.problem->bias, block.problem->bias_stride);
      add_bias(plane, patch, place, scores);
    });
  }
  if (visible) mask_visible(visible, patch, scores);
  if (patch.edge && !ranges.everything) mask_ranges(ranges, patch, place, scores);
  raise_highest(patch, scores, highest);
}

}  // namespace
}  // namespace sightline
