// What is handed to a kernel besides the problem: where to write, which keys, what was packed.
#pragma once

#include "shared/sizes.h"
#include "shared/zones.h"

namespace sightline {

// What a worker brings to each piece of work.
struct Worker {
  void* scratch;       // 64-byte aligned; may be left in any state
  const Zones* zones;  // null: nobody listens
};

// Where the forward pass writes; null pointers are not wanted.
struct ForwardOut {
  void* context;
  int64_t context_stride[3];
  double* lse;
};

// Where the sums over queries of what each key received are added; null: not wanted.
struct ReceivedOut {
  float* sums;        // contiguous along the keys
  int64_t stride[2];  // b, head
  bool grouped;       // one row of sums for all heads of a key/value head
};

// Weights of a decode's rows, kept until their lse is known; null: not wanted. A chunk of keys begins in a
// cell of kDecodeCell keys of its own; its weights are relative to the largest logit that its row had met by
// then.
struct DecodeKept {
  float* weights;  // [row][stride]
  int64_t stride;
  float* largest;          // [row][cells], in units of log 2
  int32_t *begins, *ends;  // [cells], the chunk's keys; none: begin >= end
  int64_t cells;
};
constexpr int kDecodeCell = 64;

// Rows [first, first + rows) of those that read key/value head g, counted head by head, and keys [begin,
// end).
struct DecodePart {
  int64_t b, g, first;
  int rows;
  int64_t begin, end;
};

enum class Side { kKey, kValue };

// One head's keys and values in the form that the products read; null: see Kernels::in_place.
struct PackedHead {
  const float* key;
  const float* value;
};

// What the backward pass brings for one key/value head.
struct BackwardHead {
  const float* packed;  // by pack_backward
  bool trusted;         // blocks do not look whether what may be hidden is finite, but say what came of it
  bool moderate;        // by head_moderate; nobody asks where it is trusted
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
  void* bias;
  int32_t bias_dtype;  // of halves where each entry is in one patch at most, rows and keys along strides
  int64_t bias_stride[4];
  bool clear_bias;    // each block clears its own rows first
  bool streams_bias;  // past the caches, which it would not fit into
  double* slopes;
  int64_t slopes_stride[2];
  double* table;
  int64_t table_stride;
  double* sinks;  // [H]
};

}  // namespace sightline
