// Gradients of keys and values while they are summed. A share begins in slot 0 if a cut before it falls
// inside its first unit, whose sums stay there for the merge; all others follow in slot 1.
#pragma once

#include <cstring>

#include "once/memory/worker_memory.h"
#include "shared/work.h"

namespace sightline {

class KeyMemory {
 public:
  KeyMemory(const sightline_problem& p, const sightline_gradients& g, int shares)
      : key_floats_(g.key ? p.keys * padded_width(p.width) : 0),
        value_floats_(g.value ? p.keys * padded_width(p.value_width) : 0),
        slots_(shares > 1 ? 2 : 1),
        memory_(shares * slots_, bytes()) {}

  bool ok() const { return memory_.ok(); }
  size_t bytes() const { return sizeof(float) * (key_floats_ + value_floats_); }

  KeySums sums(int share, int slot) const {
    float* base = reinterpret_cast<float*>(memory_.of(share * slots_ + slot % slots_));
    return {key_floats_ ? base : nullptr, value_floats_ ? base + key_floats_ : nullptr};
  }
  void clear(const KeySums& sums, const Zones* zones) const {
    if (sums.key) {
      const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_SCORES));
      memset(sums.key, 0, sizeof(float) * key_floats_);
    }
    if (sums.value) {
      const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_CONTEXT));
      memset(sums.value, 0, sizeof(float) * value_floats_);
    }
  }

 private:
  size_t key_floats_, value_floats_;
  int slots_;
  WorkerMemory memory_;
};

}  // namespace sightline
