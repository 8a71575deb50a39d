// Decode: a few query rows over many keys, the rows of all heads that share a key/value head together.
//
//   per part of the keys, chunk by chunk:
//     scores -> scaled -> capped -> biased -> masked
//     m' = max(m, masked);  decay = 2^(m - m')
//     weights = 2^(masked - m');  l = l * decay + sum weights;  context = context * decay + weights . value
//   then, in the order of the keys:  context = sum context 2^(m - M) / L,  lse = M + log L
//
// Each chunk of keys and values is read from memory once, and stays in the caches for the rows that follow.
#pragma once

#include "per_level/decode/keys.h"
#include "per_level/decode/scratch.h"
#include "per_level/decode/stages.h"
#include "per_level/decode/weights.h"
#include "shared/work.h"

namespace sightline {
namespace {

// Where blocks of queries, which fill whole vectors with them, become as fast; hardly a matter of the number
// of keys, of the width or of the dtype.
constexpr int kDecodeQueries = kLanes == 16 ? 10 : 6;

// Whether weights are rounded before they meet values.
template <class P>
constexpr bool kRounded = sizeof(typename P::Weight) != sizeof(float);

// Scaled scores of a tile's rows, or scaled / softcap. `first` is the first of the rows.
template <class P, int rows>
SL_INLINE void score_tile(const DecodeWork<P>& work, int first, Span keys) {
  const Zone zone(work.zones, SIGHTLINE_STAGE_SCORES);
  const int64_t width = work.p.width;
  const size_t query_bytes = P::query_bytes(width);
  decode_scores<P, rows>(work.scratch.query + first * query_bytes, query_bytes,
                         {work.key.row(keys.begin), work.key.stride}, (int)(keys.end - keys.begin), width,
                         work.factor, first == 0 ? work.ask_keys : 0, work.scratch.scores);
}

template <class P, int rows>
SL_INLINE void mask_tile(const DecodeWork<P>& work, int first, Span keys) {
  if (!work.staged) return;
  SL_UNROLL for (int r = 0; r < rows; r++) {
    apply_stages(RowStages{work.p, work.scratch.rows[first + r], keys, work.scratch.scores + r * kDecodeKeys},
                 work.zones);
  }
}

// Of one row what received.h makes of it what each key received.
template <class P>
SL_INLINE void keep_row(const DecodeWork<P>& work, int row, Span keys, const float* weights) {
  const DecodeKept& kept = work.kept;
  memcpy(kept.weights + row * kept.stride + keys.begin, weights, sizeof(float) * (keys.end - keys.begin));
  kept.largest[row * kept.cells + keys.begin / kDecodeCell] = work.partial[row * work.row_floats];
}

template <class P, int rows>
SL_INLINE void weigh_tile(const DecodeWork<P>& work, int first, Span keys, typename P::Weight* weights,
                          float* decay) {
  const Zone zone(work.zones, SIGHTLINE_STAGE_WEIGHTS);
  const int count = (int)(keys.end - keys.begin);
  SL_UNROLL for (int r = 0; r < rows; r++) {
    float* scores = work.scratch.scores + r * kDecodeKeys;
    hide_rest(count, scores);
    typename P::Weight* to = weights + r * kDecodeKeys;
    alignas(64) float exact[kRounded<P> ? kDecodeKeys : 1];
    const bool keeps = work.kept.weights != nullptr;
    decay[r] =
        weigh_row(scores, count, work.partial[(first + r) * work.row_floats],
                  work.scratch.sums + (first + r) * kLanes, to, kRounded<P> && keeps ? exact : nullptr);
    if (!keeps) continue;
    if constexpr (kRounded<P>) {
      keep_row(work, first + r, keys, exact);
    } else {
      keep_row(work, first + r, keys, to);
    }
  }
}

template <class P, int rows>
SL_INLINE void add_tile_context(const DecodeWork<P>& work, int first, Span keys,
                                const typename P::Weight* weights, const float* decay) {
  const Zone zone(work.zones, SIGHTLINE_STAGE_CONTEXT);
  const KeyRows<P> values = {work.value.row(keys.begin), work.value.stride};
  const int count = (int)(keys.end - keys.begin);
  float* context = work.partial + first * work.row_floats + kLanes;
  if (!work.careful) {
    return decode_context<P, rows>(values, work.p.value_width, weights, count, decay,
                                   first == 0 ? work.ask_values : 0, context, work.row_floats,
                                   AllSeenByRow());
  }
  for (int r = 0; r < rows; r++) {
    decode_context<P, 1>(values, work.p.value_width, weights + r * kDecodeKeys, count, decay + r, 0,
                         context + r * work.row_floats, work.row_floats,
                         SeenByRow{work.scratch.scores + r * kDecodeKeys});
  }
}

// Only the first rows ask for keys and values ahead; the others find what those asked for.
template <class P, int rows>
void decode_tile(const DecodeWork<P>& work, int first, Span keys) {
  alignas(64) typename P::Weight weights[rows * kDecodeKeys];
  float decay[rows];
  score_tile<P, rows>(work, first, keys);
  mask_tile<P, rows>(work, first, keys);
  weigh_tile<P, rows>(work, first, keys, weights, decay);
  if (work.context) add_tile_context<P, rows>(work, first, keys, weights, decay);
}

template <class P>
void decode_chunk(const DecodeWork<P>& work, int rows, Span keys) {
  int first = 0;
  for (; first + kDecodeTileRows <= rows; first += kDecodeTileRows) {
    decode_tile<P, kDecodeTileRows>(work, first, keys);
  }
  if (kDecodeTileRows > 2 && rows - first >= 2) decode_tile<P, 2>(work, first, keys), first += 2;
  if (rows - first >= 1) decode_tile<P, 1>(work, first, keys);
}

// Rows of the part as the products read them, with nothing seen yet.
template <class Element, class P>
void start_part(const DecodeWork<P>& work, const DecodePart& part) {
  const Zone zone(work.zones, SIGHTLINE_STAGE_SCORES);
  const sightline_problem& p = work.p;
  const Element* query = static_cast<const Element*>(p.query) + part.b * p.query_stride[0];
  for (int r = 0; r < part.rows; r++) {
    DecodeRow& row = work.scratch.rows[r];
    row = make_row(p, part.b, part.g, part.first + r);
    P::pack_query(query + row.h * p.query_stride[1] + row.i * p.query_stride[2], p.width,
                  work.scratch.query + r * P::query_bytes(p.width));
    float* state = work.partial + r * work.row_floats;
    memset(state, 0, sizeof(float) * (work.context ? work.row_floats : kLanes));
    state[0] = -kInfinity;
    store(work.scratch.sums + r * kLanes, Vec{});
  }
  if (work.kept.weights) {
    for (int64_t key = part.begin; key < part.end; key += kDecodeCell) work.kept.ends[key / kDecodeCell] = 0;
  }
}

// Whether a sum is NaN, be it only that of a hidden value.
template <class P>
bool has_nan(const DecodeWork<P>& work, int rows) {
  const Zone zone(work.zones, SIGHTLINE_STAGE_CONTEXT);
  Mask found = greater_int(IntVec{}, IntVec{});
  for (int64_t at = 0; at < rows * work.row_floats; at += kLanes) {
    if (at % work.row_floats) found = either(found, is_nan(load(work.partial + at)));
  }
  return any(found);
}

template <class P>
void walk_part(const DecodeWork<P>& work, const DecodePart& part) {
  const sightline_problem& p = work.p;
  for (int64_t from = part.begin; from < part.end;) {
    const DecodeRow* rows = work.scratch.rows;
    const Span keys = next_chunk(p, rows, part.rows, from, part.end);
    if (keys.begin >= keys.end) break;
    from = keys.end;
    if (p.visible && all_hidden(p, rows, part.rows, keys, work.zones)) continue;
    decode_chunk(work, part.rows, keys);
    if (!work.kept.weights) continue;
    const int64_t cell = keys.begin / kDecodeCell;
    work.kept.begins[cell] = (int32_t)keys.begin, work.kept.ends[cell] = (int32_t)keys.end;
  }
}

template <class Element>
void decode_part_of(const sightline_problem& p, const DecodePart& part, bool context, const Worker& worker,
                    const DecodeKept& kept, float* partial) {
  typedef typename ProductsOf<Element>::Type P;
  Scratch carver(worker.scratch);
  const Element *key = static_cast<const Element*>(p.key), *value = static_cast<const Element*>(p.value);
  DecodeWork<P> work = {p,
                        take_decode<P>(p, part.rows, carver),
                        {key + part.b * p.key_stride[0] + part.g * p.key_stride[1], p.key_stride[2]},
                        {context ? value + part.b * p.value_stride[0] + part.g * p.value_stride[1] : nullptr,
                         p.value_stride[2]},
                        context,
                        has_stages(p),
                        ask_distance<Element>(p.width),
                        ask_distance<Element>(p.value_width),
                        score_factor(p),
                        decode_row_floats(p),
                        partial,
                        worker.zones,
                        false,
                        kept};
  for (;; work.careful = true) {
    start_part<Element>(work, part);
    walk_part(work, part);
    if (work.careful || !context || !may_hide(p) || !has_nan(work, part.rows)) break;
  }
  for (int r = 0; r < part.rows; r++) {
    partial[r * work.row_floats + 1] = sum_of_lanes(load(work.scratch.sums + r * kLanes));
  }
}

size_t decode_scratch(const sightline_problem& p, int rows) {
  Scratch counter(nullptr);
  with_element(p.dtype, [&](auto element) {
    take_decode<typename ProductsOf<decltype(element)>::Type>(p, rows, counter);
  });
  return counter.used();
}

void decode_part(const sightline_problem& p, const DecodePart& part, bool context, const Worker& worker,
                 const DecodeKept& kept, float* partial) {
  with_element(p.dtype, [&](auto element) {
    decode_part_of<decltype(element)>(p, part, context, worker, kept, partial);
  });
}

}  // namespace
}  // namespace sightline
