// Where the weights of a decode wait for the lse of their rows.
#pragma once

#include <cstdlib>
#include <mutex>

#include "once/schedules/decode.h"

namespace sightline {

// One slot for each group of rows that is being worked on, so that with many groups the weights stay in the
// caches. Slots come from malloc, one by one as they are needed, which so hands out the same pages in the
// next call: as one large piece the system would bring them anew each time.
class KeptWeights {
 public:
  KeptWeights(const DecodeSchedule& schedule, bool wanted)
      : wanted_(wanted),
        rows_(schedule.group_rows),
        cells_((schedule.problem.keys + kDecodeCell - 1) / kDecodeCell),
        of_group_(wanted ? pointers(schedule.groups) : nullptr),
        free_(wanted ? pointers(schedule.groups) : nullptr),
        all_(wanted ? pointers(schedule.groups) : nullptr),
        ok_(!wanted || (of_group_ && free_ && all_)) {}
  ~KeptWeights() {
    for (int64_t slot = 0; slot < taken_; slot++) std::free(all_[slot]);
    std::free(of_group_), std::free(free_), std::free(all_);
  }
  KeptWeights(const KeptWeights&) = delete;
  KeptWeights& operator=(const KeptWeights&) = delete;

  // Whether groups are so few that what their keys received is summed up by all workers, in the end.
  static bool keeps_all(const DecodeSchedule& schedule) { return schedule.groups <= schedule.workers; }

  // False once there was no memory for a slot; nothing is kept of its group then.
  bool ok() const { return ok_; }

  // That of a group; null where none are wanted.
  DecodeKept of(int64_t group) {
    if (!wanted_ || !of_group_ || !free_ || !all_) return {};
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!of_group_[group]) of_group_[group] = take();
    float* weights = of_group_[group];
    if (!weights) return {};
    float* largest = weights + rows_ * stride();
    int32_t* begins = reinterpret_cast<int32_t*>(largest + rows_ * cells_);
    return {weights, stride(), largest, begins, begins + cells_, cells_};
  }
  void give_back(int64_t group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (of_group_ && free_ && of_group_[group]) free_[left_++] = of_group_[group];
  }

 private:
  int64_t stride() const { return cells_ * kDecodeCell; }

  static float** pointers(int64_t count) { return static_cast<float**>(std::calloc(count, sizeof(float*))); }

  float* take() {
    if (left_) return free_[--left_];
    const int64_t words = rows_ * (stride() + cells_) + 2 * cells_;
    float* slot = ok_ ? static_cast<float*>(std::malloc(sizeof(float) * words)) : nullptr;
    ok_ = slot != nullptr;
    if (slot) all_[taken_++] = slot;
    return slot;
  }

  const bool wanted_;
  const int64_t rows_, cells_;
  std::mutex mutex_;
  float **of_group_, **free_, **all_;  // [groups] each; of the last two the first left_ and taken_
  int64_t left_ = 0, taken_ = 0;
  bool ok_;
};

}  // namespace sightline
