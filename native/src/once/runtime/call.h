// What every part of one call runs with: the kernels of its level, its threads, and who listens.
#pragma once

#include "once/runtime/watch.h"
#include "shared/kernels.h"

namespace sightline {

class Call {
 public:
  Call(const Kernels& level, int32_t most) : kernels(level), threads(most), zones_(watching()) {}

  const Kernels& kernels;
  const int32_t threads;  // at most

  // For the stages that a worker goes through. The calling thread is worker 0, and the only one that is
  // listened to; null: nobody listens.
  const Zones* zones(int worker = 0) const { return worker == 0 && zones_.enter ? &zones_ : nullptr; }

 private:
  const Zones zones_;
};

}  // namespace sightline
