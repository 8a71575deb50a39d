// Runs the decode kernels over the parts, and has those of the same rows merged.
#pragma once

#include <atomic>
#include <new>

#include "once/memory/worker_memory.h"
#include "once/runtime/call.h"
#include "once/runtime/threads.h"
#include "once/schedules/decode.h"

namespace sightline {

inline sightline_status decode(const Call& call, const sightline_problem& p, const ForwardOut& out) {
  const Kernels& kernels = call.kernels;
  const bool context = out.context != nullptr;
  const DecodeSchedule schedule(p, call.threads, context);
  const int64_t row_floats = kernels.decode_row_floats(p);
  const int rows = (int)(schedule.group_rows < kDecodeRows ? schedule.group_rows : kDecodeRows);
  const WorkerMemory scratch(schedule.workers, kernels.decode_scratch(p, rows));
  const WorkerMemory partials(
      1, sizeof(float) * row_floats * schedule.key_parts * p.batch * p.heads * p.queries);
  const WorkerMemory counters(1, sizeof(std::atomic<int64_t>) * schedule.groups);
  if (!scratch.ok() || !partials.ok() || !counters.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  auto* left = reinterpret_cast<std::atomic<int64_t>*>(counters.of(0));
  for (int64_t group = 0; group < schedule.groups; group++) {
    new (left + group) std::atomic<int64_t>(schedule.key_parts);
  }
  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Zones* zones = call.zones(worker);
    const int64_t group = item / schedule.key_parts;
    const DecodePart part = schedule.part(item);
    float* group_partials = reinterpret_cast<float*>(partials.of(0)) +
                            schedule.rows_before(group) * schedule.key_parts * row_floats;
    kernels.decode_part(p, part, context, {scratch.of(worker), zones},
                        group_partials + item % schedule.key_parts * part.rows * row_floats);
    // Whoever is last merges, always in the order of the keys.
    if (--left[group] > 0) return;
    const Zone zone(zones, SIGHTLINE_STAGE_CONTEXT);
    kernels.decode_merge(p, part, group_partials, schedule.key_parts, out);
  });
  return SIGHTLINE_OK;
}

}  // namespace sightline
