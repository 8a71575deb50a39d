// Runs the forward kernels: in blocks of queries, or as a decode where there are few.
#pragma once

#include "once/memory/mask_map.h"
#include "once/memory/packed_heads.h"
#include "once/runs/decode.h"

namespace sightline {

inline sightline_status forward_blocks(const Call& call, const sightline_problem& given,
                                       const ForwardOut& out) {
  const Kernels& kernels = call.kernels;
  const MaskMap map(call, given);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  const sightline_problem& p = map.problem();
  const Schedule schedule(kernels, p, call.threads, out.context != nullptr, false);
  const WorkerMemory scratch(schedule.workers, kernels.forward_scratch(p));
  Packings packings(schedule);
  if (!scratch.ok() || !packings.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Part part = schedule.part(item);
    const PackedHead packed = packings.of(call, worker, part);
    const Worker brings = {scratch.of(worker), call.zones(worker)};
    for (int64_t i = part.begin; i < part.end; i += kernels.block_rows) {
      kernels.forward_block(p, packed, part.b, part.h, i, brings, out);
    }
  });
  return SIGHTLINE_OK;
}

inline sightline_status forward(const Call& call, const sightline_problem& given, const ForwardOut& out) {
  return decodes(call.kernels, given) ? decode(call, given, out) : forward_blocks(call, given, out);
}

inline sightline_plan_info plan_forward(const Kernels& kernels, int32_t threads, const sightline_problem& p,
                                        bool context) {
  if (decodes(kernels, p)) {
    const DecodeSchedule schedule(p, threads, context);
    return {SIGHTLINE_DECODE, schedule.workers, schedule.parts(), kernels.decode_products(p.dtype)};
  }
  const Schedule schedule(kernels, p, threads, context, false);
  return {SIGHTLINE_BLOCKS, schedule.workers, schedule.parts(), kernels.block_products(p.dtype)};
}

}  // namespace sightline
