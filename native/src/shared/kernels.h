// What a level offers to the code that drives it. Plain data only: this header is seen by files compiled
// for different instruction sets.
#pragma once

#include <cstddef>

#include "shared/linear.h"
#include "shared/work.h"

namespace sightline {

// Work comes in blocks of `block_rows` consecutive queries of one head. The *_scratch functions say how many
// bytes of scratch a worker has to bring.
struct Kernels {
  int block_rows;

  // Whether the products can read a problem's keys or values where they lie. Those that they cannot are
  // packed chunk by chunk, by every block anew, unless the head was packed before: pack_head writes
  // packed_words floats.
  bool (*in_place)(const sightline_problem&, Side);
  int64_t (*packed_words)(const sightline_problem&, Side);
  void (*pack_head)(const sightline_problem&, Side, int64_t b, int64_t g, float* to);

  size_t (*forward_scratch)(const sightline_problem&);
  void (*forward_block)(const sightline_problem&, const PackedHead&, int64_t b, int64_t h,
                        int64_t first_query, const Worker&, const ForwardOut&);

  // The forward pass and its tangent together. pack_moving writes moving_floats floats for a key/value head,
  // which spares each block from packing them again; blocks take null, too.
  int64_t (*moving_floats)(const sightline_problem&, const sightline_tangents&);
  void (*pack_moving)(const sightline_problem&, const sightline_tangents&, int64_t b, int64_t g, float* to);
  size_t (*tangent_scratch)(const sightline_problem&, const sightline_tangents&);
  void (*tangent_block)(const sightline_problem&, const sightline_tangents&, const float* packed, int64_t b,
                        int64_t h, int64_t first_query, const Worker&);

  // Readouts per query go straight to `out`; what each key received is added to `received`, which holds
  // received_floats(M) floats, all 0 at first, and is folded into M sums in place at the end.
  size_t (*readout_scratch)(const sightline_problem&, const sightline_readouts&);
  void (*readout_block)(const sightline_problem&, const PackedHead&, int64_t b, int64_t h,
                        int64_t first_query, const Worker&, const double* lse, const sightline_readouts& out,
                        float* received);
  size_t (*received_floats)(int64_t keys);
  void (*fold_received)(float* received, int64_t keys);

  int32_t (*block_products)(int32_t dtype);  // a sightline_products

  // Decode: each part leaves decode_row_floats for each of its rows in `partial`; the partials of all parts
  // of the same rows, one after another in the order of their keys, are merged into `out`. What was
  // kept of all rows of a group becomes what its keys [begin, end) received, given the lse [B,H,N].
  int decode_queries;  // up to so many queries per head it is faster than blocks
  int32_t (*decode_products)(int32_t dtype);
  int64_t (*decode_row_floats)(const sightline_problem&);
  size_t (*decode_scratch)(const sightline_problem&, int rows);
  void (*decode_part)(const sightline_problem&, const DecodePart&, bool context, const Worker&,
                      const DecodeKept&, float* partial);
  void (*decode_merge)(const sightline_problem&, const DecodePart& rows, float* partials, int64_t parts,
                       const ForwardOut& out);
  void (*decode_received)(const sightline_problem&, const DecodePart& group, const DecodeKept&,
                          const double* lse, const ReceivedOut& out);

  // The backward pass reads a head's keys and values where they lie as far as it can; pack_backward copies
  // the rest, once per head, to backward_words floats, and head_moderate says whether nothing in them can
  // spoil what must not see it. Gradients of a block's queries go straight to their place; all else is added
  // to sums, whose rows of keys or values store_rows writes in the end, times a factor. Where something that
  // was hidden spoiled a gradient, that is NaN: a block of a trusted head returns false if one of its queries
  // has such a one, and all_numbers tells of sums.
  int64_t (*backward_words)(const sightline_problem&);
  void (*pack_backward)(const sightline_problem&, int64_t b, int64_t g, float* to);
  bool (*head_moderate)(const sightline_problem&, int64_t b, int64_t g);
  size_t (*backward_scratch)(const sightline_problem&);
  bool (*backward_block)(const sightline_problem&, const BackwardHead&, const sightline_gradients&, int64_t b,
                         int64_t h, int64_t first_query, const Worker&, const KeySums&, const TermSums&);
  bool (*all_numbers)(const float* sums, int64_t count);  // whole vectors
  void (*store_rows)(const float* from, float factor, int64_t rows, int64_t columns, void* to, int32_t dtype,
                     int64_t stride);

  // A linear layer's product with weights that linear_pack wrote, linear_floats of them.
  int64_t (*linear_floats)(int64_t columns, int64_t depth);
  void (*linear_pack)(const LinearWeight&, int64_t column, int64_t columns, float* to);
  size_t (*linear_scratch)(int64_t rows);
  void (*linear_block)(const Linear&, const LinearPart&, void* scratch);

  // One burst of multiply-adds in registers; returns the floating-point operations done.
  double (*peak_burst)();
  double (*peak_dot_burst)();  // of bfloat16 dot products; null where the level has none
};

}  // namespace sightline
