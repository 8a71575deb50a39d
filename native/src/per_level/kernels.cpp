// All kernels, for the level named by SIGHTLINE_LEVEL: this file is compiled once per level, with that
// level's flags.
#include "shared/kernels.h"

#include "per_level/backward/block.h"
#include "per_level/decode/merge.h"
#include "per_level/decode/part.h"
#include "per_level/decode/received.h"
#include "per_level/forward/block.h"
#include "per_level/linear/block.h"
#include "per_level/peak.h"
#include "per_level/readouts/block.h"
#include "per_level/tangent/block.h"

#define SL_JOIN_(a, b) a##b
#define SL_JOIN(a, b) SL_JOIN_(a, b)

namespace sightline {
namespace {

bool in_place(const sightline_problem& p, Side side) {
  return with_products(p.dtype, [&](auto products) {
    typedef decltype(products) Products;
    return side == Side::kKey ? keys_in_place<Products>(p) : values_in_place<Products>(p);
  });
}

int64_t packed_words(const sightline_problem& p, Side side) {
  return with_products(p.dtype, [&](auto products) {
    typedef decltype(products) Products;
    return side == Side::kKey ? key_words<Products>(p.keys, p.width)
                              : value_words<Products>(p.keys, p.value_width);
  });
}

void pack_head(const sightline_problem& p, Side side, int64_t b, int64_t g, float* to) {
  with_products(p.dtype, [&](auto products) {
    if (side == Side::kKey) {
      pack_keys(products, head_rows(p.key, p.key_stride, p.dtype, b, g, 0), p.keys, p.width, to);
    } else {
      pack_values(products, head_rows(p.value, p.value_stride, p.dtype, b, g, 0), p.keys, p.value_width,
                  value_stride<decltype(products)>(p.keys, p.value_width), to);
    }
  });
}

int32_t block_products(int32_t dtype) {
  return with_products(dtype, [](auto products) { return decltype(products)::kName; });
}
int32_t decode_products(int32_t dtype) {
  return dtype == SIGHTLINE_BFLOAT16 ? kDecodeProducts : (int32_t)SIGHTLINE_FLOAT32_WORDS;
}

}  // namespace

// The one symbol of a level that the linker sees.
extern const Kernels SL_JOIN(kernels_, SIGHTLINE_LEVEL);
const Kernels SL_JOIN(kernels_, SIGHTLINE_LEVEL) = {
    kBlockRows,      in_place,         packed_words,    pack_head,       forward_scratch, forward_block,
    moving_floats,   pack_moving,      tangent_scratch, tangent_block,   readout_scratch, readout_block,
    received_floats, fold_received,    block_products,  kDecodeQueries,  decode_products, decode_row_floats,
    decode_scratch,  decode_part,      decode_merge,    decode_received, backward_words,  pack_backward,
    head_moderate,   backward_scratch, backward_block,  all_numbers,     store_rows,      linear_floats,
    linear_pack,     linear_scratch,   linear_block,    peak_burst,      peak_dot_burst,
};

}  // namespace sightline
