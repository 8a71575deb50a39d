// Whether AMX's registers may be used: Linux keeps their eight kilobytes for those processes only that asked.
#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include "once/runtime/processor.h"

namespace sightline {

// Asks once for the whole process, threads to come included; asking again (PyTorch does) is no error. It is
// refused where a seccomp filter says so, or where a thread's stack for signals is too small for the
// registers.
inline bool may_use_amx() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const bool may = processor().amx_bf16 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return may;
}

}  // namespace sightline
