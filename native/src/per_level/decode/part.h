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

namespace sightline {
namespace {

// Where blocks of queries, which fill whole vectors with them, become as fast; hardly a matter of the number
// of keys, of the width or of the dtype.
constexpr int kDecodeQueries = kLanes == 16 ? 10 : 6;

template <class P, int rows>
void decode_tile(const DecodeWork<P>& work, int first, Span keys) {
  const sightline_problem& p = work.p;
  const int count = (int)(keys.end - keys.begin);
  const size_t query_bytes = P::query_bytes(p.width);
  float* scores = work.scratch.scores;
  typedef typename P::Stored Stored;
  const bool asks = first == 0;  // the other rows find what the first ones asked for
  decode_scores<P, rows>(work.scratch.query + first * query_bytes, query_bytes,
                         {work.key.row(keys.begin), work.key.stride}, count, p.width, work.factor,
                         asks ? ask_distance<Stored>(p.width) : 0, scores);
  alignas(64) typename P::Weight weights[rows * kDecodeKeys];
  float decay[rows];
  SL_UNROLL for (int r = 0; r < rows; r++) {
    float* partial = work.partial + (first + r) * work.row_floats;
    float* sums = work.scratch.sums + (first + r) * kLanes;
    decode_stages(p, work.scratch.rows[first + r], keys, scores + r * kDecodeKeys);
    decay[r] = weigh_row(scores + r * kDecodeKeys, count, partial[0], sums, weights + r * kDecodeKeys);
  }
  if (!work.context) return;
  decode_context<P, rows>({work.value.row(keys.begin), work.value.stride}, p.value_width, weights, count,
                          decay, asks ? ask_distance<Stored>(p.value_width) : 0,
                          work.partial + first * work.row_floats + kLanes, work.row_floats);
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

template <class Element>
void decode_part_of(const sightline_problem& p, const DecodePart& part, bool context, void* memory,
                    float* partial) {
  typedef typename ProductsOf<Element>::Type P;
  Scratch carver(memory);
  const double log2e = 1.4426950408889634;
  const Element *query = static_cast<const Element*>(p.query), *key = static_cast<const Element*>(p.key),
                *value = static_cast<const Element*>(p.value);
  const DecodeWork<P> work = {
      p,
      take_decode<P>(p, part.rows, carver),
      {key + part.b * p.key_stride[0] + part.g * p.key_stride[1], p.key_stride[2]},
      {context ? value + part.b * p.value_stride[0] + part.g * p.value_stride[1] : nullptr,
       p.value_stride[2]},
      context,
      p.softcap > 0 ? p.scale / p.softcap : (float)(p.scale * log2e),
      decode_row_floats(p),
      partial};
  for (int r = 0; r < part.rows; r++) {
    DecodeRow& row = work.scratch.rows[r];
    row = make_row(p, part.b, part.g, part.first + r);
    P::pack_query(query + part.b * p.query_stride[0] + row.h * p.query_stride[1] + row.i * p.query_stride[2],
                  p.width, work.scratch.query + r * P::query_bytes(p.width));
    float* state = partial + r * work.row_floats;
    memset(state, 0, sizeof(float) * (context ? work.row_floats : kLanes));
    state[0] = -kInfinity;
    store(work.scratch.sums + r * kLanes, Vec{});
  }
  for (int64_t from = part.begin; from < part.end;) {
    const Span keys = next_chunk(p, work.scratch.rows, part.rows, from, part.end);
    if (keys.begin >= keys.end) break;
    if (!p.visible || !all_hidden(p, work.scratch.rows, part.rows, keys)) decode_chunk(work, part.rows, keys);
    from = keys.end;
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

void decode_part(const sightline_problem& p, const DecodePart& part, bool context, void* memory,
                 float* partial) {
  with_element(p.dtype,
               [&](auto element) { decode_part_of<decltype(element)>(p, part, context, memory, partial); });
}

}  // namespace
}  // namespace sightline
