// Who listens to the stages of a call: callbacks that a thread has set for the calls it makes.
#pragma once

#include "shared/zones.h"

namespace sightline {

// Of the calling thread; null pointers: nobody.
Zones watching();

}  // namespace sightline
