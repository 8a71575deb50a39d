#include "once/runtime/watch.h"

namespace sightline {
namespace {

thread_local Zones set_here = {nullptr, nullptr};

}  // namespace

Zones watching() { return set_here; }

}  // namespace sightline

extern "C" int32_t sightline_watch(sightline_zone enter, sightline_zone leave) {
  if (!enter != !leave) return SIGHTLINE_INVALID_ARGUMENT;
  sightline::set_here = {enter, leave};
  return SIGHTLINE_OK;
}
