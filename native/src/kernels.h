// What a level offers to the code that drives it. Plain data only: this header is seen by files compiled
// for different instruction sets.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sightline.h"

namespace sightline {

constexpr int kMaxTopk = 64;

// Where the forward pass writes; null pointers are not wanted.
struct ForwardOut {
  float* context;
  int64_t context_stride[3];
  float* lse;
};

// Gradients of one key/value head, summed over queries in float32: rows of padded_width() floats. Null: not
// wanted.
struct KeySums {
  float* key;  // still without the scale
  float* value;
};

// What blocks add the gradients of sinks and bias terms to; null: not wanted. A stride is 0 along an axis
// that is summed.
struct TermSums {
  float* bias;
  int64_t bias_stride[4];
  bool clear_bias;  // each block clears its own rows first
  double* slopes;
  int64_t slope_stride[2];
  double* table;
  int64_t table_stride;
  double* sinks;  // [H]
};

// Rows that kernels read as whole vectors are padded to this width, with zeros.
constexpr int64_t padded_width(int64_t width) { return (width + 15) / 16 * 16; }

// Work comes in blocks of `block_rows` consecutive queries of one head. A block needs `scratch` bytes,
// 64-byte aligned, that it may leave in any state.
struct Kernels {
  int block_rows;

  size_t (*forward_scratch)(const sightline_problem&);
  void (*forward_block)(const sightline_problem&, int64_t b, int64_t h, int64_t first_query, void* scratch,
                        const ForwardOut&);

  // Readouts per query go straight to `out`; what each key received is added to `received`, which holds
  // received_floats(M) floats, all 0 at first, and is folded into M sums in place at the end.
  size_t (*readout_scratch)(const sightline_problem&, const sightline_readouts&);
  void (*readout_block)(const sightline_problem&, int64_t b, int64_t h, int64_t first_query, void* scratch,
                        const float* lse, const sightline_readouts& out, float* received);
  size_t (*received_floats)(int64_t keys);
  void (*fold_received)(float* received, int64_t keys);

  // Gradients of a block's queries go straight to their place; all else is added to sums. `problem` is the
  // part's own: float32, with keys and values as load_keys left them.
  size_t (*backward_scratch)(const sightline_problem&, const sightline_gradients&);
  void (*backward_block)(const sightline_problem&, const sightline_gradients&, int64_t b, int64_t h,
                         int64_t first_query, void* scratch, const KeySums&, const TermSums&);
  // Rows of any dtype to padded rows of floats, and back, times a factor.
  void (*load_rows)(const void* from, int32_t dtype, int64_t stride, int64_t rows, int64_t columns,
                    float* to);
  void (*store_rows)(const float* from, float factor, int64_t rows, int64_t columns, void* to, int32_t dtype,
                     int64_t stride);

  // One burst of multiply-adds in registers; returns the floating-point operations done.
  double (*peak_burst)();
};

}  // namespace sightline
