// Products of bfloat16 in AMX's registers: sixteen rows of sixteen words by sixteen words of sixteen lanes.
//
//   sums[row][lane] += sum_word factor[row][word] * lanes[word][lane]
//
// All three operands are what the other products read and write (products/tiles.h, products/key_tiles.h), but
// for values, whose words must lie along the keys: [column][word of keys]. Sums are never started from zero
// and merged afterwards as there: each product of sixteen words is such a sum already.
//
// Subnormal factors and sums count as zero.
#pragma once

#include "per_level/memory/ahead.h"
#include "per_level/products/seen.h"

#if defined(SL_AMX_PRODUCTS)

namespace sightline {
namespace {

// --- The registers' shapes ---
//
// Registers 0 to 3 hold sums, 4 and 5 rows of the factor, 6 and 7 words of lanes. A thread's registers belong
// to whoever gave them their shapes last (oneDNN is another): a block asks for its own, and gives them back.
//
// Compilers do not know what memory the intrinsics read: statements between them that say so keep it written.

struct TileShape {
  uint8_t rows, words;
};
inline TileShape& tile_shape() {
  static thread_local TileShape shape = {0, 0};
  return shape;
}

SL_OUTLINE void load_shape(TileShape shape) {
  struct alignas(64) {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
  } given = {};
  given.palette = 1;
  for (int i = 0; i < 8; i++) {
    given.row_bytes[i] = i == 4 || i == 5 ? 4 * shape.words : 64;
    given.rows[i] = i >= 6 ? shape.words : shape.rows;
  }
  asm volatile("" ::"r"(&given) : "memory");
  _tile_loadconfig(&given);
  tile_shape() = shape;
}
SL_INLINE void use_shape(int rows, int words) {
  const TileShape now = tile_shape();
  if (now.rows != rows || now.words != words) load_shape({(uint8_t)rows, (uint8_t)words});
}

inline AmxProducts::Session::Session() { tile_shape() = {0, 0}; }
inline AmxProducts::Session::~Session() { _tile_release(); }

// --- One panel: up to two registers of rows by up to two of lanes ---

// Strides count words.
struct WordMatrix {
  const float* data;
  int64_t stride;
  SL_INLINE WordMatrix at(int64_t row, int64_t word) const { return {data + row * stride + word, stride}; }
};
struct SumMatrix {
  float* data;
  int64_t stride;
  SL_INLINE SumMatrix at(int64_t row, int64_t lane) const { return {data + row * stride + lane, stride}; }
};

// The intrinsics are macros that spell a register's number: it cannot be a template argument.
template <int rows, int lanes, bool add>
SL_INLINE void start_sums(const SumMatrix& sums) {
  const int64_t bytes = sums.stride * sizeof(float);
  if constexpr (add) {
    _tile_loadd(0, sums.data, bytes);
    if constexpr (lanes == 2) _tile_loadd(1, sums.data + kLanes, bytes);
    if constexpr (rows == 2) _tile_loadd(2, sums.at(kLanes, 0).data, bytes);
    if constexpr (rows == 2 && lanes == 2) _tile_loadd(3, sums.at(kLanes, kLanes).data, bytes);
  } else {
    _tile_zero(0);
    if constexpr (lanes == 2) _tile_zero(1);
    if constexpr (rows == 2) _tile_zero(2);
    if constexpr (rows == 2 && lanes == 2) _tile_zero(3);
  }
}
template <int rows, int lanes>
SL_INLINE void store_sums(const SumMatrix& sums) {
  const int64_t bytes = sums.stride * sizeof(float);
  _tile_stored(0, sums.data, bytes);
  if constexpr (lanes == 2) _tile_stored(1, sums.data + kLanes, bytes);
  if constexpr (rows == 2) _tile_stored(2, sums.at(kLanes, 0).data, bytes);
  if constexpr (rows == 2 && lanes == 2) _tile_stored(3, sums.at(kLanes, kLanes).data, bytes);
}

// `steps` products of the words that a register holds.
template <int rows, int lanes, bool add>
SL_INLINE void multiply_panel(const WordMatrix& factor, const WordMatrix& of_lanes, int64_t steps,
                              const SumMatrix& sums) {
  const int64_t factor_bytes = factor.stride * sizeof(float), lane_bytes = of_lanes.stride * sizeof(float);
  start_sums<rows, lanes, add>(sums);
  for (int64_t i = 0; i < steps; i++) {
    const WordMatrix a = factor.at(0, i * kLanes), b = of_lanes.at(i * kLanes, 0);
    _tile_loadd(4, a.data, factor_bytes);
    _tile_loadd(6, b.data, lane_bytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (lanes == 2) {
      _tile_loadd(7, b.data + kLanes, lane_bytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (rows == 2) {
      _tile_loadd(5, a.at(kLanes, 0).data, factor_bytes);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (lanes == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  store_sums<rows, lanes>(sums);
}

// --- All of them ---

template <int rows, bool add>
SL_INLINE void multiply_rows(const WordMatrix& factor, const WordMatrix& of_lanes, int64_t steps, int vectors,
                             const SumMatrix& sums) {
  int v = 0;
  for (; v + 2 <= vectors; v += 2) {
    multiply_panel<rows, 2, add>(factor, of_lanes.at(0, v * kLanes), steps, sums.at(0, v * kLanes));
  }
  if (v < vectors) {
    multiply_panel<rows, 1, add>(factor, of_lanes.at(0, v * kLanes), steps, sums.at(0, v * kLanes));
  }
}

// `words` of each of the `steps` products; `rows_done(first, end)` follows rows of sums that are complete.
template <bool add, class RowsDone>
SL_INLINE void multiply_words(const WordMatrix& factor, int64_t rows, const WordMatrix& of_lanes, int words,
                              int64_t steps, int vectors, const SumMatrix& sums, const RowsDone& rows_done) {
  int64_t row = 0;
  if (rows >= kLanes) use_shape(kLanes, words);
  for (; row + 2 * kLanes <= rows; row += 2 * kLanes) {
    multiply_rows<2, add>(factor.at(row, 0), of_lanes, steps, vectors, sums.at(row, 0));
    rows_done(row, row + 2 * kLanes);
  }
  for (; row + kLanes <= rows; row += kLanes) {
    multiply_rows<1, add>(factor.at(row, 0), of_lanes, steps, vectors, sums.at(row, 0));
    rows_done(row, row + kLanes);
  }
  if (row == rows) return;
  use_shape((int)(rows - row), words);
  multiply_rows<1, add>(factor.at(row, 0), of_lanes, steps, vectors, sums.at(row, 0));
  rows_done(row, rows);
}

// Sums of `words` products, at least one, for `rows` rows and `vectors` vectors of lanes.
template <bool add, class RowsDone>
SL_INLINE void multiply_matrix(const WordMatrix& factor, int64_t rows, const WordMatrix& of_lanes,
                               int64_t words, int vectors, const SumMatrix& sums, const RowsDone& rows_done) {
  const auto not_yet = [](int64_t, int64_t) {};
  const int64_t steps = words / kLanes, whole = steps * kLanes;
  const int rest = (int)(words - whole);
  asm volatile("" ::: "memory");
  if (rest == 0) {
    multiply_words<add>(factor, rows, of_lanes, kLanes, steps, vectors, sums, rows_done);
  } else if (whole == 0) {
    multiply_words<add>(factor, rows, of_lanes, rest, 1, vectors, sums, rows_done);
  } else {
    multiply_words<add>(factor, rows, of_lanes, kLanes, steps, vectors, sums, not_yet);
    multiply_words<true>(factor.at(0, whole), rows, of_lanes.at(whole, 0), rest, 1, vectors, sums, rows_done);
  }
  asm volatile("" ::: "memory");
}

// --- The products of attention (products/tiles.h and products/key_tiles.h say what they are) ---

template <int vectors>
SL_INLINE void amx_scores_product(const WordMatrix& key, int keys, const float* query_t, int64_t width,
                                  float factor, float* scores, Vec* highest, Ahead& ahead) {
  Vec high[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) high[v] = highest[v];
  const Vec times = splat(factor);
  const auto scale = [&](int64_t first, int64_t end) {
    ahead.steps(kPanelSteps);
    for (int64_t k = first; k < end; k++) {
      SL_UNROLL for (int v = 0; v < vectors; v++) {
        float* at = scores + k * kSlabRows + v * kLanes;
        const Vec score = load(at) * times;
        store(at, score);
        high[v] = max_of(high[v], score);
      }
    }
  };
  multiply_matrix<false>(key, keys, {query_t, kSlabRows}, width, vectors, {scores, kSlabRows}, scale);
  SL_UNROLL for (int v = 0; v < vectors; v++) highest[v] = high[v];
}

template <int vectors>
SL_INLINE void shrink_context(int64_t columns, float* context_t, const Vec* decay) {
  const Vec below_one = splat(0x1.fffffep-1f);
  bool stays = true;
  SL_UNROLL for (int v = 0; v < vectors; v++) stays = stays && !any(not_greater(decay[v], below_one));
  if (stays) return;
  for (int64_t e = 0; e < columns; e++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float* at = context_t + e * kSlabRows + v * kLanes;
      store(at, load(at) * decay[v]);
    }
  }
}

template <int vectors>
SL_INLINE void amx_context_product(const WordMatrix& value, int64_t columns, const float* weights, int keys,
                                   float* context_t, const Vec* decay, Ahead& ahead) {
  shrink_context<vectors>(columns, context_t, decay);
  multiply_matrix<true>(value, columns, {weights, kSlabRows}, keys, vectors, {context_t, kSlabRows},
                        [&](int64_t, int64_t) { ahead.steps(kPanelSteps); });
}

// Carefully (products/seen.h), lane by lane, to the same bits.
template <int vectors>
SL_OUTLINE void seen_amx_context_product(const WordMatrix& value, int64_t columns, const float* weights,
                                         int keys, float* context_t, const Vec* decay, const float* bits) {
  shrink_context<vectors>(columns, context_t, decay);
  const SeenByLane seen{bits};
  for (int64_t e = 0; e < columns; e++) {
    for (int v = 0; v < vectors; v++) {
      float* at = context_t + e * kSlabRows + v * kLanes;
      PairSum sum;
      sum.sum = load(at);
      for (int k = 0; k < keys; k++) {
        sum.add(seen(splat_word(value.data + e * value.stride + k), k, v),
                load(weights + k * kSlabRows + v * kLanes));
        if (k % kLanes == kLanes - 1 || k == keys - 1) sum.close();
      }
      store(at, sum.sum);
    }
  }
}

}  // namespace
}  // namespace sightline

#endif
