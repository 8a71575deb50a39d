// Zones: what a profiler hears of the stages of a call, on the thread that called.
#pragma once

#include <cstdint>

#include "sightline.h"

namespace sightline {

struct Zones {
  sightline_zone enter, leave;
};

namespace {

// The same stage of the backward pass: from what it gives to what it takes.
constexpr int32_t gradient_of(int32_t stage) { return SIGHTLINE_STAGE_GRADIENT + stage; }

// One stage at work, to the end of the scope. Null: nobody listens, and all it costs is a test.
class Zone {
 public:
  Zone(const Zones* zones, int32_t stage) : zones_(zones), stage_(stage) {
    if (zones_) tell(zones_->enter, stage_);
  }
  ~Zone() {
    if (zones_) tell(zones_->leave, stage_);
  }
  Zone(const Zone&) = delete;
  Zone& operator=(const Zone&) = delete;

 private:
  // Out of the way of the kernels, which must not expect it to throw either.
  static __attribute__((cold, noinline)) void tell(sightline_zone zone, int32_t stage) noexcept {
    zone(stage);
  }

  const Zones* zones_;
  int32_t stage_;
};

}  // namespace
}  // namespace sightline
