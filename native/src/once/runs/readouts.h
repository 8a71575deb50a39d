// Runs the readout kernels, and puts together what keys receive.
#pragma once

#include <cstring>

#include "once/memory/mask_map.h"
#include "once/memory/packed_heads.h"
#include "once/runtime/threads.h"

namespace sightline {

// What keys receive is a sum over queries: each part sums into memory of its own, and the parts of a head are
// merged in order, so that the result does not depend on who was faster.
inline void merge_parts(const Call& call, const Schedule& schedule, const float* sums, float* received) {
  const Zone zone(call.zones(), SIGHTLINE_STAGE_WEIGHTS);
  const sightline_problem& p = schedule.problem;
  for (int64_t head = 0; head < p.batch * p.heads; head++) {
    float* to = received + head * p.keys;
    const float* from = sums + head * schedule.per_head * p.keys;
    memcpy(to, from, sizeof(float) * p.keys);
    for (int64_t part = 1; part < schedule.per_head; part++) {
      from += p.keys;
      for (int64_t k = 0; k < p.keys; k++) to[k] += from[k];
    }
  }
}

inline sightline_status readout(const Call& call, const sightline_problem& given, const double* lse,
                                const sightline_readouts& out) {
  const Kernels& kernels = call.kernels;
  const MaskMap map(call, given);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  const sightline_problem& p = map.problem();
  float* of_keys = out.received ? out.received : out.key_sums;
  const bool summing = of_keys && p.keys > 0;
  const Schedule schedule(kernels, p, call.threads, false, summing);
  const size_t lane_bytes = summing ? kernels.received_floats(p.keys) * sizeof(float) : 0;
  const WorkerMemory scratch(schedule.workers, kernels.readout_scratch(p, out));
  Packings packings(schedule);
  const WorkerMemory lanes(schedule.workers, lane_bytes);
  const bool merging = summing && schedule.per_head > 1;
  const WorkerMemory sums(1, merging ? sizeof(float) * schedule.parts() * p.keys : 0);
  if (!scratch.ok() || !packings.ok() || !lanes.ok() || !sums.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  float* part_sums = merging ? reinterpret_cast<float*>(sums.of(0)) : of_keys;

  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Part part = schedule.part(item);
    const PackedHead packed = packings.of(call, worker, part);
    const Worker brings = {scratch.of(worker), call.zones(worker)};
    float* received = summing ? reinterpret_cast<float*>(lanes.of(worker)) : nullptr;
    if (summing) memset(received, 0, lane_bytes);
    for (int64_t i = part.begin; i < part.end; i += kernels.block_rows) {
      kernels.readout_block(p, packed, part.b, part.h, i, brings, lse, out, received);
    }
    if (!summing) return;
    const Zone zone(call.zones(worker), SIGHTLINE_STAGE_WEIGHTS);
    kernels.fold_received(received, p.keys);
    memcpy(part_sums + item * p.keys, received, sizeof(float) * p.keys);
  });
  if (merging) merge_parts(call, schedule, part_sums, of_keys);
  return SIGHTLINE_OK;
}

}  // namespace sightline
