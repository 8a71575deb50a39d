// What a part of a decode works in, and what it leaves behind.
#pragma once

#include "per_level/decode/row.h"
#include "per_level/memory/scratch.h"
#include "shared/zones.h"

namespace sightline {
namespace {

SL_INLINE int64_t whole_wides(int64_t elements) { return (elements + kWide - 1) / kWide * kWide; }

// What a part leaves of a row: m, l, and from kLanes on its context, not yet divided by l.
inline int64_t decode_row_floats(const sightline_problem& p) { return kLanes + whole_wides(p.value_width); }

struct DecodeScratch {
  char* query;  // packed rows
  DecodeRow* rows;
  float* sums;    // [row][kLanes]: l, lane by lane
  float* scores;  // [tile row][kDecodeKeys], then the weights
};

template <class P>
DecodeScratch take_decode(const sightline_problem& p, int rows, Scratch& scratch) {
  DecodeScratch decode;
  decode.query = scratch.take<char>(P::query_bytes(p.width) * rows);
  decode.rows = scratch.take<DecodeRow>(rows);
  decode.sums = scratch.take<float>(rows * kLanes);
  decode.scores = scratch.take<float>(kDecodeTileRows * kDecodeKeys);
  return decode;
}

template <class P>
struct DecodeWork {
  const sightline_problem& p;
  DecodeScratch scratch;
  KeyRows<P> key, value;         // of the whole head
  bool context;                  // wanted
  bool staged;                   // something stands between scaled scores and weights
  int64_t ask_keys, ask_values;  // how far ahead
  float factor;
  int64_t row_floats;
  float* partial;
  const Zones* zones;  // null: nobody listens
  bool careful;        // hidden values are left out of the products (products/seen.h)
  DecodeKept kept;
};

}  // namespace
}  // namespace sightline
