// The parts of a row put together, in the order of the keys.
#pragma once

#include <cmath>

#include "per_level/decode/products.h"
#include "per_level/decode/scratch.h"
#include "per_level/stages/lse.h"
#include "per_level/vectors/functions.h"
#include "shared/work.h"

namespace sightline {
namespace {

// context [E] in the order of its sums to elements in their own.
template <class Element>
void write_elements(const float* context, int64_t width, Element* to) {
  typedef typename ProductsOf<Element>::Type P;
  float ordered[kWide];
  for (int64_t e = 0; e < width; e += kWide, context += kWide) {
    SL_UNROLL for (int i = 0; i < kWide; i++) ordered[i] = context[P::place(i)];
    const int left = (int)smaller<int64_t>(kWide, width - e);
    store_part(to + e, load(ordered), smaller(left, kLanes));
    if (left > kLanes) store_part(to + e + kLanes, load(ordered + kLanes), left - kLanes);
  }
}

// One row from its parts, `part_floats` apart, in the order of the keys; the first part's context is used up.
inline void merge_row(const sightline_problem& p, float* partial, int64_t parts, int64_t part_floats,
                      const DecodeRow& row, int64_t b, const ForwardOut& out) {
  // A sink is a key without a value.
  const float sink = p.sinks ? p.sinks[row.h * p.sinks_stride[0]] : -kInfinity;
  float highest = to_log2(sink);
  for (int64_t part = 0; part < parts; part++) highest = larger(highest, partial[part * part_floats]);
  const float shift = highest == -kInfinity ? 0.0f : highest;
  float sum = sink == -kInfinity ? 0.0f : exp2(splat(to_log2(sink) - shift))[0];
  float* context = partial + kLanes;
  const int64_t width = out.context ? whole_wides(p.value_width) : 0;
  for (int64_t part = 0; part < parts; part++) {
    const float* found = partial + part * part_floats;
    const float factor = found[0] == shift ? 1.0f : exp2(splat(found[0] - shift))[0];
    sum += found[1] * factor;
    for (int64_t e = 0; e < width; e += kLanes) {
      const Vec old = part == 0 ? Vec{} : load(context + e);
      store(context + e, fma(load(found + kLanes + e), splat(factor), old));
    }
  }
  if (out.lse) {
    out.lse[(b * p.heads + row.h) * p.queries + row.i] = natural_lse(highest, sum);
  }
  if (!out.context) return;
  const float inverse = sum == 0 ? 0.0f : 1.0f / sum;
  for (int64_t e = 0; e < width; e += kLanes) store(context + e, load(context + e) * splat(inverse));
  with_element(p.dtype, [&](auto element) {
    typedef decltype(element) Element;
    write_elements(context, p.value_width,
                   static_cast<Element*>(out.context) + b * out.context_stride[0] +
                       row.h * out.context_stride[1] + row.i * out.context_stride[2]);
  });
}

void decode_merge(const sightline_problem& p, const DecodePart& rows, float* partials, int64_t parts,
                  const ForwardOut& out) {
  const int64_t row_floats = decode_row_floats(p);
  for (int r = 0; r < rows.rows; r++) {
    merge_row(p, partials + r * row_floats, parts, rows.rows * row_floats,
              make_row(p, rows.b, rows.g, rows.first + r), rows.b, out);
  }
}

}  // namespace
}  // namespace sightline
