// All kernels, for the level named by SIGHTLINE_LEVEL: this file is compiled once per level, with that
// level's flags.
#include "kernels.h"

#include "backward.h"
#include "forward.h"
#include "peak.h"
#include "readout.h"

#define SL_JOIN_(a, b) a##b
#define SL_JOIN(a, b) SL_JOIN_(a, b)

namespace sightline {

// The one symbol of a level that the linker sees.
extern const Kernels SL_JOIN(kernels_, SIGHTLINE_LEVEL);
const Kernels SL_JOIN(kernels_, SIGHTLINE_LEVEL) = {
    kBlockRows,    forward_scratch,  forward_block,  readout_scratch, readout_block, received_floats,
    fold_received, backward_scratch, backward_block, load_rows_of,    store_rows_of, peak_burst,
};

}  // namespace sightline
