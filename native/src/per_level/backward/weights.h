// masked and grad_weights to weights and grad_masked, in place, and both to the words that the products read.
#pragma once

#include "per_level/backward/scratch.h"

namespace sightline {
namespace {

// masked -> weights, and grad_weights -> grad_masked, in place. Dropped weights become 0, but pass on what
// the row's sum sends back to them. The difference comes first: where one weight is 1, it is exactly 0.
template <int vectors, bool scores, bool entropy, class Keep>
void weigh_gradients(const BackwardScratch& s, const Patch& patch, const Place& place, const Keep& keep) {
  const LseVectors<vectors> lse(s.lse.from(place.row));
  Vec delta[vectors], log_factor[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    delta[v] = load(s.delta + place.row + v * kLanes);
    if (entropy) log_factor[v] = load(s.log_factor + place.row + v * kLanes);
  }
#pragma GCC unroll 1
  for (int k = 0; k < patch.keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      float *w = s.weights + k * kSlabRows + v * kLanes, *g = s.grad_scores + k * kSlabRows + v * kLanes;
      const Vec log_weight = lse.log_weight(load(w), v);
      const Vec weight = exp2(log_weight);
      const auto kept = keep.factor(k, v);
      if (entropy) {
        // A weight of 0 sends nothing, and 0 times -infinity would be NaN.
        const Vec of_log = log_factor[v] * max_of(log_weight, splat(-1000.0f));
        store(g, weight * (kept * load(g) + of_log - delta[v]));
      } else if (scores) {
        store(g, weight * (kept * load(g) - delta[v]));
      }
      store(w, kept * weight);
    }
  }
}

// [key][slab row] -> [word of keys][slab row].
template <class Products, int vectors>
void round_keys(const float* from, int keys, float* to) {
  for (int k = 0; k < keys; k += 2, from += 2 * kSlabRows, to += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec second = k + 1 < keys ? load(from + kSlabRows + v * kLanes) : Vec{};
      store(to + v * kLanes, Products::join({load(from + v * kLanes), second}));
    }
  }
}

// [key][slab row] -> [key][word of slab rows], in place: the front of each row.
template <class Products, int vectors>
void round_queries(float* rows, int keys) {
  for (int k = 0; k < keys; k++, rows += kSlabRows) {
    SL_UNROLL for (int v = 0; v < vectors; v += 2) {
      const Vec second = v + 1 < vectors ? load(rows + (v + 1) * kLanes) : Vec{};
      store(rows + v / 2 * kLanes, Products::line_up({load(rows + v * kLanes), second}));
    }
  }
}

// Which pairs are seen, while the scores still say so: those of lanes that look at nothing are not.
template <int vectors>
SL_OUTLINE void note_patch(const BackwardScratch& s, const Patch& patch, const Place& place) {
  for (int k = 0; k < patch.keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const int at = k * kSlabRows + v * kLanes;
      const Vec looks = bits_unless(equal(load(s.lse.high + place.row + v * kLanes), splat(kInfinity)));
      store(s.seen + at, keep_bits(seen_bits(load(s.weights + at)), looks));
    }
  }
}

// Hidden pairs of a patch get weight 0 and gradients 0: in a row of NaN they have neither yet.
template <class Products, int vectors>
SL_OUTLINE void hide_patch(const BackwardScratch& s, const Patch& patch) {
  const auto hide = [&](float* tile) {
    for (int k = 0; k < patch.keys; k++) {
      SL_UNROLL for (int v = 0; v < vectors; v++) {
        const int at = k * kSlabRows + v * kLanes;
        store(tile + at, keep_bits(load(tile + at), load(s.seen + at)));
      }
    }
  };
  hide(s.weights);
  hide(s.grad_scores);
  if (s.cap_slope) hide(s.cap_slope);
  if constexpr (Products::kElements == 2) {
    round_keys<Products, vectors>(s.seen, patch.keys, s.seen_keys);
    round_queries<Products, vectors>(s.seen, patch.keys);
  }
}

// Weights and grad_scores as words: along queries, in place, and grad_scores also along keys.
template <class Products, int vectors>
void round_patch(const BackwardBlock& x, const Patch& patch) {
  const BackwardScratch& s = x.scratch;
  if constexpr (Products::kElements == 2) {
    const Zone zone(x.block.zones, gradient_of(SIGHTLINE_STAGE_SCORES));
    if (x.query) round_keys<Products, vectors>(s.grad_scores, patch.keys, s.key_words);
    if (x.key_sums.key) round_queries<Products, vectors>(s.grad_scores, patch.keys);
    if (x.key_sums.value) round_queries<Products, vectors>(s.weights, patch.keys);
  }
}

// Both at once, where nothing stands between: masked and grad_weights straight to words. `keys` is 1 or 2.
// What a float32 lse is off by is lost in the rounding to words.
template <class Products, int vectors, class Keep>
SL_INLINE void weigh_words(const BackwardScratch& s, int key, int keys, const Vec* lse, const Vec* delta,
                           const Keep& keep) {
  float *weights = s.weights + key * kSlabRows, *grads = s.grad_scores + key * kSlabRows;
  float* key_words = s.key_words + key / 2 * kSlabRows;
  SL_UNROLL for (int first = 0; first < vectors; first += 2) {
    Vec w[2][2] = {}, g[2][2] = {};  // [key][vector]
    SL_UNROLL for (int i = 0; i < 4; i++) {
      const int k = i / 2, v = first + i % 2;
      if (k >= keys || v >= vectors) continue;
      const int at = k * kSlabRows + v * kLanes;
      const Vec weight = exp2(load(weights + at) - lse[v]);
      const auto kept = keep.factor(key + k, v);
      w[k][v - first] = kept * weight;
      g[k][v - first] = weight * (kept * load(grads + at) - delta[v]);
    }
    SL_UNROLL for (int k = 0; k < keys; k++) {
      store(weights + k * kSlabRows + first / 2 * kLanes, Products::line_up(w[k]));
      store(grads + k * kSlabRows + first / 2 * kLanes, Products::line_up(g[k]));
    }
    SL_UNROLL for (int v = 0; v < 2; v++) {
      if (first + v < vectors) store(key_words + (first + v) * kLanes, Products::join({g[0][v], g[1][v]}));
    }
  }
}

template <class Products, int vectors, class Keep>
void weigh_to_words(const BackwardScratch& s, const Patch& patch, const Place& place, const Keep& keep) {
  Vec lse[vectors], delta[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) {
    lse[v] = load(s.lse.high + place.row + v * kLanes);
    delta[v] = load(s.delta + place.row + v * kLanes);
  }
  int k = 0;
#pragma GCC unroll 1
  for (; k + 2 <= patch.keys; k += 2) weigh_words<Products, vectors>(s, k, 2, lse, delta, keep);
  if (k < patch.keys) weigh_words<Products, vectors>(s, k, 1, lse, delta, keep);
}

}  // namespace
}  // namespace sightline
