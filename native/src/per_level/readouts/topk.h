// The largest scores of every row, with their keys: one sorted list per lane.
//
// A list holds (score, key), largest first; a later key goes below an equal score, so that ties keep the
// lower key first. Few keys enter a list once it has filled, so everything is arranged to say no quickly.
// Where they keep coming (scores that ascend along the keys), those that others of the same chunk will push
// out again are left out beforehand.
#pragma once

#include "per_level/vectors/simd.h"

namespace sightline {
namespace {

// Keys of one chunk that may enter a list before it is asked which others could stay there.
constexpr int kPatience = 12;

struct TopLists {
  int capacity = 0;         // entries per list; 0: not wanted
  float* scores = nullptr;  // [vector][entry][lane]
  int32_t* keys = nullptr;  // [vector][entry][lane]
};

// Lists of up to 8 live in registers while they are worked on, so their length is a template argument.
SL_INLINE int list_capacity(int64_t wanted) {
  return wanted > 8 ? (int)wanted : wanted > 4 ? 8 : wanted > 2 ? 4 : (int)wanted;
}

inline void clear_lists(const TopLists& lists) {
  for (int i = 0; i < lists.capacity * kBlockRows; i++) lists.scores[i] = -kInfinity, lists.keys[i] = -1;
}

// The score that a newcomer has to beat.
SL_INLINE Vec threshold(const TopLists& lists, int vector) {
  return load(lists.scores + ((vector + 1) * lists.capacity - 1) * kLanes);
}

// All comparisons come first, so none waits for another; then every entry takes its upper neighbour, the
// newcomer, or itself.
template <int capacity>
SL_INLINE void insert(Vec* top, IntVec* key, Vec score, IntVec score_key) {
  Mask above[capacity];
  SL_UNROLL for (int i = 0; i < capacity; i++) above[i] = greater(score, top[i]);
  SL_UNROLL for (int i = capacity - 1; i > 0; i--) {
    top[i] = select(above[i - 1], top[i - 1], select(above[i], score, top[i]));
    key[i] = select_int(above[i - 1], key[i - 1], select_int(above[i], score_key, key[i]));
  }
  top[0] = select(above[0], score, top[0]);
  key[0] = select_int(above[0], score_key, key[0]);
}

// A score that `capacity` of these keys reach, lane by lane: whatever lies below it need not enter a list.
// Every capacity-th key forms a group, and the least of the groups' maxima is such a score.
inline Vec reached_score(const float* scores, int keys, int capacity) {
  if (keys < 2 * capacity) return splat(-kInfinity);
  Vec reached = splat(kInfinity);
  for (int group = 0; group < capacity; group++) {
    Vec highest = splat(-kInfinity);
    for (int k = group; k < keys; k += capacity) highest = max_of(highest, load(scores + k * kSlabRows));
    reached = select(greater(reached, highest), highest, reached);
  }
  return reached;
}

// Offers keys until `patience` of them have entered; returns how many were looked at.
template <int capacity, bool filtered>
SL_INLINE int offer_some(const float* scores, int keys, int32_t first, int patience, Vec reached, Vec* top,
                         IntVec* key) {
  int k = 0;
#pragma GCC unroll 1
  for (; k < keys && patience > 0; k++) {
    const Vec score = load(scores + k * kSlabRows);
    Mask enters = greater(score, top[capacity - 1]);
    if (filtered) enters = both(enters, not_greater(reached, score));
    if (!any(enters)) continue;
    insert<capacity>(top, key, score, splat_int(first + k));
    patience -= !filtered;
  }
  return k;
}

// Offers `keys` rows of one vector, the first of which belongs to key `first`.
template <int capacity>
void offer_to_short_list(const float* scores, int keys, int32_t first, float* list_scores,
                         int32_t* list_keys) {
  Vec top[capacity];
  IntVec key[capacity];
  SL_UNROLL for (int i = 0; i < capacity; i++) {
    top[i] = load(list_scores + i * kLanes), key[i] = load_int(list_keys + i * kLanes);
  }
  const int done = offer_some<capacity, false>(scores, keys, first, kPatience, Vec{}, top, key);
  if (done < keys) {
    const float* rest = scores + done * kSlabRows;
    const Vec reached = reached_score(rest, keys - done, capacity);
    offer_some<capacity, true>(rest, keys - done, first + done, 1, reached, top, key);
  }
  SL_UNROLL for (int i = 0; i < capacity; i++) {
    store(list_scores + i * kLanes, top[i]), store_int(list_keys + i * kLanes, key[i]);
  }
}

// The same in memory, from the bottom up, until no lane moves.
inline void insert_in_memory(float* top, int32_t* key, int capacity, Vec score, IntVec score_key) {
  Mask above = greater(score, load(top + (capacity - 1) * kLanes));
  for (int i = capacity - 1; i >= 0 && any(above); i--) {
    const Vec here = load(top + i * kLanes), next = i ? load(top + (i - 1) * kLanes) : splat(kInfinity);
    const IntVec here_key = load_int(key + i * kLanes),
                 next_key = i ? load_int(key + (i - 1) * kLanes) : IntVec{};
    const Mask above_next = greater(score, next);
    store(top + i * kLanes, select(above_next, next, select(above, score, here)));
    store_int(key + i * kLanes, select_int(above_next, next_key, select_int(above, score_key, here_key)));
    above = above_next;
  }
}

inline void offer_to_long_list(const float* scores, int keys, int32_t first, float* list_scores,
                               int32_t* list_keys, int capacity) {
  int entered = 0;
  Vec reached = splat(-kInfinity);
  for (int k = 0; k < keys; k++) {
    const Vec score = load(scores + k * kSlabRows);
    const Mask enters = greater(score, load(list_scores + (capacity - 1) * kLanes));
    if (!any(both(enters, not_greater(reached, score)))) continue;
    insert_in_memory(list_scores, list_keys, capacity, score, splat_int(first + k));
    if (++entered == kPatience) {
      reached = reached_score(scores + (k + 1) * kSlabRows, keys - k - 1, capacity);
    }
  }
}

inline void offer(const TopLists& lists, int vector, const float* scores, int keys, int64_t first) {
  float* list_scores = lists.scores + vector * lists.capacity * kLanes;
  int32_t* list_keys = lists.keys + vector * lists.capacity * kLanes;
  const int32_t key = (int32_t)first;
  switch (lists.capacity) {
    case 1:
      return offer_to_short_list<1>(scores, keys, key, list_scores, list_keys);
    case 2:
      return offer_to_short_list<2>(scores, keys, key, list_scores, list_keys);
    case 4:
      return offer_to_short_list<4>(scores, keys, key, list_scores, list_keys);
    case 8:
      return offer_to_short_list<8>(scores, keys, key, list_scores, list_keys);
    default:
      return offer_to_long_list(scores, keys, key, list_scores, list_keys, lists.capacity);
  }
}

}  // namespace
}  // namespace sightline
