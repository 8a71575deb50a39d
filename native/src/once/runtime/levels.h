// The instruction sets this build has kernels for, from the plainest up.
#pragma once

#include "shared/kernels.h"

namespace sightline {

struct Level {
  const char* name;
  const Kernels* kernels;
  bool (*supported)();  // by this machine and its operating system
  bool (*pays)();       // is faster there than the level before
};

int level_count();
const Level* level_at(int32_t level);  // null: no such level

}  // namespace sightline
