// Products in which hidden pairs take no part.
//
// A hidden pair has weight 0, and 0 times NaN or infinity is NaN: what a mask hides would come through where
// it holds one. So there are two ways to read the operand that meets weights (or gradients of scores): as it
// lies, where all of it is finite, and carefully, with zeros for the elements of a word that its lane does
// not see. Both sum the same numbers in the same order: what is hidden changes no bit.
//
// "Seen" is kept as bits, all of an element's or none, in words of the products.
#pragma once

#include "per_level/products/words.h"

namespace sightline {
namespace {

struct AllSeen {
  SL_INLINE Vec operator()(Vec word, int, int) const { return word; }
};

// Words that meet lanes of queries: `bits` is [word][slab row].
struct SeenByLane {
  const float* bits;
  SL_INLINE Vec operator()(Vec word, int at, int vector) const {
    return keep_bits(word, load(bits + at * kSlabRows + vector * kLanes));
  }
};

// Rows of queries that meet one key: `bits` is [key][word of slab rows].
struct SeenByQuery {
  const float* bits;
  SL_INLINE Vec operator()(Vec row, int key, int query) const {
    int32_t word;
    memcpy(&word, bits + key * kSlabRows + query, sizeof word);
    return keep_bits(row, (Vec)splat_int(word));
  }
};

// Bits of those that a masked score lets through.
SL_INLINE Vec seen_bits(Vec masked) { return bits_unless(equal(masked, splat(-kInfinity))); }

// masked [key][slab row] -> bits [word of keys][slab row]. bfloat16's of NaN with all bits is one with all
// bits.
template <class Products, int vectors>
SL_OUTLINE void note_seen(const float* masked, int keys, float* bits) {
  constexpr int step = Products::kElements;
  for (int k = 0; k < keys; k += step, masked += step * kSlabRows, bits += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      Vec elements[step] = {};
      for (int i = 0; i < step && k + i < keys; i++) {
        elements[i] = seen_bits(load(masked + i * kSlabRows + v * kLanes));
      }
      store(bits + v * kLanes, Products::join(elements));
    }
  }
}

// --- Whether care is needed ---

constexpr int kSquares = 4;

// Adds a row's squares, vector by vector.
template <class Element>
SL_INLINE void add_squares(const Element* row, int64_t width, Vec* sum) {
  int64_t c = 0;
  for (; c + kSquares * kLanes <= width; c += kSquares * kLanes) {
    SL_UNROLL for (int i = 0; i < kSquares; i++) {
      const Vec x = load(row + c + i * kLanes);
      sum[i] = fma(x, x, sum[i]);
    }
  }
  for (; c < width; c += kLanes) {
    const Vec x = load_part(row + c, (int)smaller<int64_t>(kLanes, width - c));
    sum[0] = fma(x, x, sum[0]);
  }
}

// Whether the squares of rows sum up to a finite number: then all elements are finite, and so is every
// product of two such rows. Two rows at a time, so that no sum waits for another.
template <class Element>
SL_OUTLINE bool all_moderate(const Element* rows, int64_t stride, int64_t count, int64_t width) {
  Vec sum[2 * kSquares] = {};
  int64_t j = 0;
  for (; j + 2 <= count; j += 2) {
    add_squares(rows + j * stride, width, sum);
    add_squares(rows + (j + 1) * stride, width, sum + kSquares);
  }
  if (j < count) add_squares(rows + j * stride, width, sum);
  Vec total = {};
  SL_UNROLL for (int i = 0; i < 2 * kSquares; i++) total += sum[i];
  return !any(not_greater(splat(kInfinity), total));
}

// The same of halves, by their bits: all below a limit that keeps sums of up to 8,192 products finite.
template <class Half>
SL_INLINE bool all_below(const Half* rows, int64_t stride, int64_t count, int64_t width, int16_t limit) {
  typedef int16_t Bits __attribute__((vector_size(sizeof(Vec))));
  constexpr int64_t kBits = sizeof(Vec) / sizeof(int16_t);
  Bits above = {};
  for (int64_t j = 0; j < count; j++) {
    for (int64_t c = 0; c < width; c += kBits) {
      Bits bits = {};
      if (c + kBits <= width) {
        memcpy(&bits, rows + j * stride + c, sizeof bits);
      } else {
        memcpy(&bits, rows + j * stride + c, sizeof(Half) * (width - c));
      }
      above |= (Bits)((bits & (int16_t)0x7fff) > limit);
    }
  }
  uint64_t words[sizeof(Vec) / sizeof(uint64_t)], found = 0;
  memcpy(words, &above, sizeof words);
  for (const uint64_t word : words) found |= word;
  return found == 0;
}
inline bool all_moderate(const Bfloat16* rows, int64_t stride, int64_t count, int64_t width) {
  return all_below(rows, stride, count, width, (127 + 57) << 7);
}
inline bool all_moderate(const Float16* rows, int64_t stride, int64_t count, int64_t width) {
  return all_below(rows, stride, count, width, 0x7bff);
}

// Whether none of `count` sums, which fill whole vectors, is NaN.
SL_OUTLINE bool all_numbers(const float* sums, int64_t count) {
  Mask found = greater_int(IntVec{}, IntVec{});
  for (int64_t i = 0; i < count; i += 2 * kLanes) {
    const int64_t next = smaller<int64_t>(i + kLanes, count - kLanes);
    found = either(found, either_nan(load(sums + i), load(sums + next)));
  }
  return !any(found);
}

}  // namespace
}  // namespace sightline
