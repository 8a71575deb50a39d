// Gradients of what is added to the logits, from one patch of grad_masked^T: the dense bias, and, by sums
// along the diagonals j - i, relative tables and ALiBi slopes.
#pragma once

#include "per_level/products/transpose.h"
#include "per_level/stages/terms.h"
#include "per_level/vectors/dtypes.h"
#include "shared/work.h"

namespace sightline {
namespace {

// How entries of the dense bias' gradient get to their place.
enum class BiasStores {
  kAdd,    // to what other patches brought
  kWrite,  // nobody else brings any
  kStream  // the same, past the caches
};

// A vector of a row: `count` entries, all if there are as many.
template <class Element>
SL_INLINE void bring(Element* to, Vec x, int count, BiasStores stores) {
  if (count < kLanes) return store_part(to, stores == BiasStores::kAdd ? load_part(to, count) + x : x, count);
  if (stores == BiasStores::kAdd) return store(to, load(to) + x);
  if constexpr (sizeof(Element) * kLanes == sizeof(Vec)) {
    if (stores == BiasStores::kStream && may_stream(to)) return stream(to, x);
  }
  store(to, x);
}

// grad_masked^T [key][slab row], with kLanes readable floats before and after it.
struct MaskedGradient {
  const Patch& patch;
  const Place& place;
  const float* tile;
  BiasStores stores;
  SL_INLINE Vec at(int k, int v) const { return load(tile + k * kSlabRows + v * kLanes); }
};

// --- Dense bias ---

// Adds tile^T to rows, keys contiguous; or writes it there.
template <class Element>
void add_transposed(const MaskedGradient& grad, Element* to, int64_t row_stride) {
  for (int v = 0; v < grad.patch.vectors; v++) {
    const int rows = smaller(kLanes, grad.place.rows - v * kLanes);
    for (int k = 0; k < grad.patch.keys; k += kLanes) {
      const int keys = smaller(kLanes, grad.patch.keys - k);
      Vec tile[kLanes];
      SL_UNROLL for (int i = 0; i < kLanes; i++) tile[i] = i < keys ? grad.at(k + i, v) : Vec{};
      transpose(tile);
      Element* row = to + v * kLanes * row_stride + k;
      SL_UNROLL for (int r = 0; r < kLanes; r++) {
        if (r >= rows) continue;
        bring(row + r * row_stride, tile[r], keys, grad.stores);
      }
    }
  }
}

inline void add_entries(const MaskedGradient& grad, float* to, int64_t row_stride, int64_t key_stride) {
  for (int k = 0; k < grad.patch.keys; k++) {
    for (int r = 0; r < grad.place.rows; r++) {
      to[r * row_stride + k * key_stride] += grad.tile[k * kSlabRows + r];
    }
  }
}

// Sums over rows; where keys are summed too, key_stride is 0.
inline void add_key_sums(const MaskedGradient& grad, float* to, int64_t key_stride) {
  for (int k = 0; k < grad.patch.keys; k++) {
    Vec sum = {};
    for (int v = 0; v < grad.patch.vectors; v++) sum += grad.at(k, v);
    to[k * key_stride] += sum_of_lanes(sum);
  }
}

inline void add_row_sums(const MaskedGradient& grad, float* to, int64_t row_stride) {
  for (int v = 0; v < grad.patch.vectors; v++) {
    Vec sum = {};
    for (int k = 0; k < grad.patch.keys; k++) sum += grad.at(k, v);
    float lanes[kLanes];
    store(lanes, sum);
    const int rows = smaller(kLanes, grad.place.rows - v * kLanes);
    for (int r = 0; r < rows; r++) to[(v * kLanes + r) * row_stride] += lanes[r];
  }
}

// Where the gradient of (row, key) of the block belongs; strides are 0 along an axis that is summed.
template <class Element>
SL_INLINE Element* bias_gradient(const Block& block, const TermSums& sums, int row, int64_t key) {
  const int64_t (&stride)[4] = sums.bias_stride;
  return static_cast<Element*>(sums.bias) + block.b * stride[0] + block.h * stride[1] +
         (block.first + row) * stride[2] + key * stride[3];
}

inline void add_bias_gradient(const Block& block, const TermSums& sums, const MaskedGradient& grad) {
  const int64_t row_stride = sums.bias_stride[2], key_stride = sums.bias_stride[3];
  const int row = grad.place.row;
  const int64_t key = grad.place.key;
  if (row_stride != 0 && key_stride == 1) {
    return with_element(sums.bias_dtype, [&](auto element) {
      add_transposed(grad, bias_gradient<decltype(element)>(block, sums, row, key), row_stride);
    });
  }
  float* to = bias_gradient<float>(block, sums, row, key);
  if (row_stride == 0) {
    add_key_sums(grad, to, key_stride);
  } else if (key_stride == 0) {
    add_row_sums(grad, to, row_stride);
  } else {
    add_entries(grad, to, row_stride, key_stride);
  }
}

// From words of two keys in bfloat16, [word of keys][slab row]: turned as words, they lie as the bias' do.
inline void write_bias_words(const Block& block, const TermSums& sums, const Patch& patch, const Place& place,
                             const float* words, BiasStores stores) {
  const int64_t row_stride = sums.bias_stride[2];
  Bfloat16* to = bias_gradient<Bfloat16>(block, sums, place.row, place.key);
  for (int v = 0; v < patch.vectors; v++) {
    const int rows = smaller(kLanes, place.rows - v * kLanes);
    for (int k = 0; k < patch.keys; k += 2 * kLanes) {
      const int keys = smaller(2 * kLanes, patch.keys - k);
      Vec tile[kLanes];
      SL_UNROLL for (int i = 0; i < kLanes; i++) {
        tile[i] = 2 * i < keys ? load(words + (k / 2 + i) * kSlabRows + v * kLanes) : Vec{};
      }
      transpose(tile);
      SL_UNROLL for (int r = 0; r < kLanes; r++) {
        if (r >= rows) continue;
        Bfloat16* out = to + (v * kLanes + r) * row_stride + k;
        if (keys < 2 * kLanes) {
          memcpy(out, &tile[r], sizeof(Bfloat16) * keys);
        } else if (stores == BiasStores::kStream && may_stream(out)) {
          stream(out, tile[r]);
        } else {
          memcpy(out, &tile[r], sizeof(Vec));
        }
      }
    }
  }
}

// Whether each entry of the gradient comes from one patch at most.
SL_INLINE bool writes_bias(const TermSums& sums) {
  return sums.bias && sums.clear_bias && sums.bias_stride[2] != 0 && sums.bias_stride[3] == 1;
}

// Whether rows have to be cleared first: what is hidden may be in no patch.
inline bool clears_bias(const Terms& terms, const Ranges& ranges, const TermSums& sums) {
  return sums.bias && sums.clear_bias && !(writes_bias(sums) && ranges.everything && !terms.visible.data);
}

inline BiasStores bias_stores(const TermSums& sums, bool clears) {
  if (!writes_bias(sums)) return BiasStores::kAdd;
  return sums.streams_bias && !clears ? BiasStores::kStream : BiasStores::kWrite;
}

// Rows that no other block adds to are cleared by the block itself, so that they are still in the cache.
inline void clear_bias_rows(const Block& block, const TermSums& sums) {
  const Zone zone(block.zones, gradient_of(SIGHTLINE_STAGE_BIASED));
  const int64_t stride = sums.bias_stride[3], keys = stride == 0 ? 1 : block.keys;
  with_element(sums.bias_dtype, [&](auto element) {
    for (int row = 0; row < block.count; row++) {
      auto* to = bias_gradient<decltype(element)>(block, sums, row, 0);
      for (int64_t k = 0; k < keys; k++) to[k * stride] = {};
    }
  });
}

// --- Positions ---

// strip[u] = the sum over all entries with (row - key) + last key = u. Read from one key to the next at a
// step of one lane more, a diagonal stays in its lane; lanes that run over a row's end are left out.
inline void sum_diagonals(const MaskedGradient& grad, float* strip) {
  const int lanes = grad.patch.vectors * kLanes, last = grad.patch.keys - 1;
  IntVec lane;
  for (int i = 0; i < kLanes; i++) lane[i] = i;
  for (int u = 0; u < lanes + last; u += kLanes) {
    const int first_row = u - last;  // of lane 0, at key 0
    const int begin = larger(0, 1 - kLanes - first_row), end = smaller(last, lanes - 1 - first_row);
    Vec sum = {};
    for (int k = begin; k <= end; k++) {
      const int row = first_row + k;
      const IntVec rows = lane + splat_int(row);
      const Mask inside = both(greater_int(rows, splat_int(-1)), greater_int(splat_int(lanes), rows));
      sum += select(inside, load(grad.tile + k * kSlabRows + row), Vec{});
    }
    store(strip + u, sum);
  }
}

inline void add_position_gradients(const Block& block, const Terms& terms, const TermSums& sums,
                                   const MaskedGradient& grad, float* strip) {
  sum_diagonals(grad, strip);
  const int last = grad.patch.keys - 1, length = grad.patch.vectors * kLanes + last;
  const int64_t newest = grad.place.key + last - (block.first + grad.place.row) - terms.offset;
  if (sums.slopes) {
    double sum = 0;
    for (int u = 0; u < length; u++) {
      const int64_t d = newest - u;
      sum -= (double)(d < 0 ? -d : d) * strip[u];
    }
    sums.slopes[block.b * sums.slopes_stride[0] + block.h * sums.slopes_stride[1]] += sum;
  }
  if (!sums.table) return;
  double* table = sums.table + block.h * sums.table_stride + terms.radius;
  for (int u = 0; u < length; u++) {
    table[larger(-terms.radius, smaller(terms.radius, newest - u))] += strip[u];
  }
}

}  // namespace
}  // namespace sightline
