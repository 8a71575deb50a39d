// Where the weights of a decode wait for the lse of their rows.
#pragma once

#include <mutex>
#include <vector>

#include "once/memory/worker_memory.h"
#include "once/schedules/decode.h"

namespace sightline {

// One slot for each group of rows that is being worked on, so that with many groups the weights stay in the
// caches. Parts are handed out in order, so at most one group has been begun and is left to nobody: slots for
// the workers and one more are enough.
class KeptWeights {
 public:
  KeptWeights(const DecodeSchedule& schedule, bool wanted)
      : wanted_(wanted),
        rows_(schedule.group_rows),
        cells_((schedule.problem.keys + kDecodeCell - 1) / kDecodeCell),
        count_(!wanted               ? 0
               : keeps_all(schedule) ? (int)schedule.groups
                                     : schedule.workers + 1),
        memory_(wanted ? count_ : 1, wanted ? bytes() : 0),
        of_group_(wanted ? schedule.groups : 0, -1) {
    for (int slot = 0; slot < count_; slot++) free_.push_back(slot);
  }

  // Whether groups are so few that what their keys received is summed up by all workers, in the end.
  static bool keeps_all(const DecodeSchedule& schedule) { return schedule.groups <= schedule.workers; }

  bool ok() const { return memory_.ok(); }

  // That of a group; null where none are wanted.
  DecodeKept of(int64_t group) {
    if (!wanted_) return {};
    const std::lock_guard<std::mutex> lock(mutex_);
    if (of_group_[group] < 0) of_group_[group] = free_.back(), free_.pop_back();
    float* weights = reinterpret_cast<float*>(memory_.of(of_group_[group]));
    float* largest = weights + rows_ * stride();
    int32_t* begins = reinterpret_cast<int32_t*>(largest + rows_ * cells_);
    return {weights, stride(), largest, begins, begins + cells_, cells_};
  }
  void give_back(int64_t group) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(of_group_[group]);
  }

 private:
  int64_t stride() const { return cells_ * kDecodeCell; }
  size_t bytes() const { return 4 * (rows_ * (stride() + cells_) + 2 * cells_); }

  const bool wanted_;
  const int64_t rows_, cells_;
  const int count_;
  const WorkerMemory memory_;
  std::mutex mutex_;
  std::vector<int> of_group_, free_;
};

}  // namespace sightline
