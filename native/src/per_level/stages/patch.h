// The stages of one patch of S^T. Each is a pass of its own over a patch that lies in L1, and runs only where
// the problem has it.
#pragma once

#include "per_level/products/tiles.h"
#include "per_level/stages/bias.h"
#include "per_level/stages/mask.h"
#include "per_level/stages/order.h"

namespace sightline {
namespace {

struct PatchStages {
  const Block& block;
  const Terms& terms;
  const Ranges& ranges;
  const Patch& patch;
  Place place;
  const StageScratch& scratch;
  float* scores;
  const uint8_t* visible;  // [key][slab row]; null: the dense mask hides nothing here
  float* cap_slope;        // the slope of the cap, 1 - tanh^2, is left here; null: not wanted

  bool has_capped() const { return terms.cap != 0; }
  void capped() const {
    const Vec cap = splat(terms.cap);
    if (!cap_slope) return for_vectors(patch, scores, [&](int, int, Vec s) { return cap * tanh(s); });
    for_vectors(patch, scores, [&](int k, int v, Vec s) {
      const Vec t = tanh(s);
      store(cap_slope + k * kSlabRows + v * kLanes, splat(1.0f) - t * t);
      return cap * t;
    });
  }

  bool has_biased() const { return terms.positions || block.problem->bias; }
  void biased() const {
    if (terms.positions) add_positions(block, terms, patch, place, scratch.strip, scores);
    if (block.problem->bias) add_bias(block, patch, place, scores);
  }

  bool has_masked() const { return visible || (patch.edge && !ranges.everything); }
  void masked() const {
    if (visible) mask_visible(visible, patch, scores);
    if (patch.edge && !ranges.everything) mask_ranges(ranges, patch, place, scores);
  }
};

// `highest` is raised to what the stages have left.
inline void raise_highest(const Patch& patch, const float* scores, Vec* highest) {
  with_vectors(patch.vectors, [&](auto n) {
    Vec high[n.value];
    SL_UNROLL for (int v = 0; v < n.value; v++) high[v] = highest[v];
    for (int k = 0; k < patch.keys; k++) {
      SL_UNROLL for (int v = 0; v < n.value; v++) {
        high[v] = max_of(high[v], load(scores + k * kSlabRows + v * kLanes));
      }
    }
    SL_UNROLL for (int v = 0; v < n.value; v++) highest[v] = high[v];
  });
}

}  // namespace
}  // namespace sightline
