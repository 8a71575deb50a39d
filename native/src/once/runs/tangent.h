// Runs the forward pass and its tangent in blocks of queries.
#pragma once

#include "once/memory/mask_map.h"
#include "once/memory/worker_memory.h"
#include "once/schedules/blocks.h"

namespace sightline {

// The moving keys of the head that a worker is at; none where one block reads them, or room is short.
class MovingHeads {
 public:
  MovingHeads(const Schedule& schedule, const sightline_tangents& t)
      : schedule_(schedule),
        tangents_(t),
        bytes_(schedule.kernels.moving_floats(schedule.problem, t) * (int64_t)sizeof(float)),
        packs_(bytes_ > 0 && schedule.blocks > 1 && bytes_ * schedule.workers <= kPackingLimit),
        memory_(schedule.workers, kHeader + (packs_ ? bytes_ : 0)) {
    for (int worker = 0; ok() && worker < schedule.workers; worker++) held(worker) = -1;
  }
  bool ok() const { return memory_.ok(); }

  const float* of(const Call& call, int worker, const Part& part) {
    if (!packs_) return nullptr;
    const sightline_problem& p = schedule_.problem;
    const int64_t g = part.h / (p.heads / p.kv_heads), head = part.b * p.kv_heads + g;
    float* packed = reinterpret_cast<float*>(memory_.of(worker) + kHeader);
    if (held(worker) != head) {
      const Zone zone(call.zones(worker), SIGHTLINE_STAGE_SCORES);
      call.kernels.pack_moving(p, tangents_, part.b, g, packed);
      held(worker) = head;
    }
    return packed;
  }

 private:
  static constexpr size_t kHeader = 64;  // which head the rest holds
  int64_t& held(int worker) { return *reinterpret_cast<int64_t*>(memory_.of(worker)); }

  const Schedule& schedule_;
  const sightline_tangents& tangents_;
  int64_t bytes_;
  bool packs_;
  WorkerMemory memory_;
};

inline sightline_status tangent(const Call& call, const sightline_problem& given,
                                const sightline_tangents& t) {
  const Kernels& kernels = call.kernels;
  const MaskMap map(call, given);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  const sightline_problem& p = map.problem();
  const Schedule schedule(kernels, p, call.threads, true, true);
  const WorkerMemory scratch(schedule.workers, kernels.tangent_scratch(p, t));
  MovingHeads moving(schedule, t);
  if (!scratch.ok() || !moving.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Part part = schedule.part(item);
    const float* packed = moving.of(call, worker, part);
    for (int64_t i = part.begin; i < part.end; i += kernels.block_rows) {
      kernels.tangent_block(p, t, packed, part.b, part.h, i, {scratch.of(worker), call.zones(worker)});
    }
  });
  return SIGHTLINE_OK;
}

}  // namespace sightline
