// The stages between a product and the softmax, in their one order:
//
//   scores   query . key
//   scaled   scale * scores
//   capped   softcap * tanh(scaled / softcap)
//   biased   capped + bias, slopes and table by distance
//   masked   -infinity where a key is hidden
//
// then weights and context. The products give scaled at once, or, where there is a cap, scaled / softcap,
// which saves a pass. Logits are kept in units of log 2 (x * log2 e), which the softmax's 2^x wants.
#pragma once

#include "per_level/vectors/functions.h"
#include "shared/zones.h"
#include "sightline.h"

namespace sightline {
namespace {

// What the products multiply scores with.
SL_INLINE float score_factor(const sightline_problem& p) {
  return p.softcap > 0 ? p.scale / p.softcap : (float)((double)p.scale * kLog2eExact);
}

// Scaled to masked, in place. `Pass` knows some scores that lie together (a patch, a row), which stages they
// have, and how each is done to them. One copy for all callers: some of them are unrolled.
template <class Pass>
SL_OUTLINE void apply_stages(const Pass& pass, const Zones* zones) {
  if (pass.has_capped()) {
    const Zone zone(zones, SIGHTLINE_STAGE_CAPPED);
    pass.capped();
  }
  if (pass.has_biased()) {
    const Zone zone(zones, SIGHTLINE_STAGE_BIASED);
    pass.biased();
  }
  if (pass.has_masked()) {
    const Zone zone(zones, SIGHTLINE_STAGE_MASKED);
    pass.masked();
  }
}

}  // namespace
}  // namespace sightline
