// Each worker's packed head.
#pragma once

#include "once/memory/worker_memory.h"
#include "once/runtime/call.h"
#include "once/schedules/blocks.h"

namespace sightline {

class Packings {
 public:
  explicit Packings(const Schedule& schedule)
      : schedule_(schedule), memory_(schedule.workers, kHeader + bytes(schedule)) {
    for (int worker = 0; ok() && worker < schedule.workers; worker++) held(worker) = -1;
  }
  bool ok() const { return memory_.ok(); }

  // The keys and values of a part. Heads of one group that a worker meets one after another share them.
  PackedHead of(const Call& call, int worker, const Part& part) {
    const sightline_problem& p = schedule_.problem;
    const int64_t g = part.h / (p.heads / p.kv_heads), head = part.b * p.kv_heads + g;
    float* key = reinterpret_cast<float*>(memory_.of(worker) + kHeader);
    float* value = key + schedule_.key_words();
    if (held(worker) != head) {
      if (schedule_.pack_keys) {
        const Zone zone(call.zones(worker), SIGHTLINE_STAGE_SCORES);
        call.kernels.pack_head(p, Side::kKey, part.b, g, key);
      }
      if (schedule_.pack_values) {
        const Zone zone(call.zones(worker), SIGHTLINE_STAGE_CONTEXT);
        call.kernels.pack_head(p, Side::kValue, part.b, g, value);
      }
      held(worker) = head;
    }
    return {schedule_.pack_keys ? key : nullptr, schedule_.pack_values ? value : nullptr};
  }

 private:
  static constexpr size_t kHeader = 64;  // which head the rest holds
  static size_t bytes(const Schedule& schedule) {
    return sizeof(float) * (schedule.key_words() + schedule.value_words());
  }
  int64_t& held(int worker) { return *reinterpret_cast<int64_t*>(memory_.of(worker)); }

  const Schedule& schedule_;
  WorkerMemory memory_;
};

}  // namespace sightline
