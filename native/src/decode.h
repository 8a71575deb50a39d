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

#include <cmath>

#include "decode_stages.h"

namespace sightline {
namespace {

// Where blocks of queries, which fill whole vectors with them, become as fast; hardly a matter of the number
// of keys, of the width or of the dtype.
constexpr int kDecodeQueries = kLanes == 16 ? 10 : 6;

SL_INLINE float highest_of_lanes(Vec v) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps(v);
#else
  float highest = v[0];
  SL_UNROLL for (int l = 1; l < kLanes; l++) highest = larger(highest, v[l]);
  return highest;
#endif
}

// --- Memory ---

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

// --- Which keys ---

// The next chunk at or after `from` in which some row sees something; empty at the end.
inline Span next_chunk(const sightline_problem& p, const DecodeRow* rows, int count, int64_t from,
                       int64_t end) {
  if (!p.ranges) return {from, smaller(end, from + kDecodeKeys)};
  int64_t begin = end, last = 0;
  for (int r = 0; r < count; r++) {
    for (int64_t slot = 0; slot < p.range_count; slot++) {
      const int64_t lo = larger<int64_t>(from, rows[r].ranges[2 * slot]), hi = rows[r].ranges[2 * slot + 1];
      if (lo < hi && lo < begin) begin = lo;
    }
  }
  for (int r = 0; r < count; r++) {
    for (int64_t slot = 0; slot < p.range_count; slot++) {
      const int64_t lo = rows[r].ranges[2 * slot], hi = rows[r].ranges[2 * slot + 1];
      if (lo < begin + kDecodeKeys && hi > begin && hi > last) last = hi;
    }
  }
  return {begin, smaller(smaller(end, last), begin + kDecodeKeys)};
}

// Whether the dense mask hides the whole chunk from every row.
inline bool all_hidden(const sightline_problem& p, const DecodeRow* rows, int count, Span keys) {
  const int64_t stride = p.visible_stride[3];
  for (int r = 0; r < count; r++) {
    if (r > 0 && rows[r].visible == rows[r - 1].visible) continue;
    uint8_t seen = 0;
    for (int64_t j = keys.begin; j < keys.end; j++) seen |= rows[r].visible[j * stride];
    if (seen) return false;
  }
  return true;
}

// --- One chunk ---

SL_INLINE void store_weight(float* to, Vec weight) { store(to, weight); }
#if defined(__AVX512BF16__)
SL_INLINE void store_weight(Bfloat16* to, Vec weight) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(weight));
}
#endif

// masked -> weights of one row; moves m and l on. Returns the decay.
template <class Weight>
SL_INLINE float weigh_row(const float* scores, int count, float& highest, float* sum_lanes, Weight* weights) {
  Vec high = splat(-kInfinity);
  for (int k = 0; k < count; k += kLanes) high = max_of(high, load(scores + k));
  const float before = highest, after = larger(before, highest_of_lanes(high));
  // A row that has seen nothing yet: subtracting -infinity would give NaN, subtracting 0 gives weights 0.
  const float shift = after == -kInfinity ? 0.0f : after;
  const float decay = before == shift ? 1.0f : exp2(splat(before - shift))[0];
  Vec sum = {};
  for (int k = 0; k < count; k += kLanes) {
    const Vec weight = exp2(load(scores + k) - splat(shift));
    sum += weight;
    store_weight(weights + k, weight);
  }
  highest = after;
  store(sum_lanes, fma(load(sum_lanes), splat(decay), sum));
  return decay;
}

template <class P>
struct DecodeWork {
  const sightline_problem& p;
  DecodeScratch scratch;
  KeyRows<P> key, value;  // of the whole head
  bool context;
  float factor;
  int64_t row_floats;
  float* partial;
};

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

// --- One part ---

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

// --- Merging the parts of a row ---

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
  const float sink = p.sinks ? p.sinks[row.h * p.sink_stride] : -kInfinity;
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
    out.lse[(b * p.heads + row.h) * p.queries + row.i] =
        sum == 0 ? -kInfinity : from_log2(highest + log2f(sum));
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
