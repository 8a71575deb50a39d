// Whether a problem may hide anything: both sides ask.
#pragma once

#include "sightline.h"

namespace sightline {
namespace {

inline bool may_hide(const sightline_problem& p) {
  return p.ranges || p.visible || p.bias || p.slopes || p.table;
}

}  // namespace
}  // namespace sightline
