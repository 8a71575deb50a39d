// Runs the decode kernels over the parts, and has those of the same rows merged.
#pragma once

#include <atomic>
#include <cmath>
#include <new>

#include "once/memory/kept_weights.h"
#include "once/memory/worker_memory.h"
#include "once/runtime/call.h"
#include "once/runtime/threads.h"
#include "once/schedules/decode.h"

namespace sightline {

// Whether a row of a group has NaN or infinity for its lse. What was kept of such rows does not tell hidden
// keys from seen ones, so that nothing is made of the group's.
inline bool spoiled(const sightline_problem& p, int64_t b, int64_t g, const double* lse) {
  const int64_t rows = p.heads / p.kv_heads * p.queries;
  lse += (b * p.kv_heads + g) * rows;
  for (int64_t row = 0; row < rows; row++) {
    if (!(lse[row] < HUGE_VAL)) return true;
  }
  return false;
}

// What the keys of a group received, all of them by one worker.
inline void add_group(const Call& call, const sightline_problem& p, DecodePart group, KeptWeights& kept,
                      int64_t number, const double* lse, const ReceivedOut& received) {
  group.begin = 0, group.end = p.keys;
  const DecodeKept weights = kept.of(number);
  if (weights.weights && !spoiled(p, group.b, group.g, lse)) {
    call.kernels.decode_received(p, group, weights, lse, received);
  }
  kept.give_back(number);
}

// The same for all groups, by all workers: each takes pieces of the keys.
inline void add_groups(const Call& call, const sightline_problem& p, const DecodeSchedule& schedule,
                       KeptWeights& kept, const double* lse, const ReceivedOut& received) {
  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Zone zone(call.zones(worker), SIGHTLINE_STAGE_WEIGHTS);
    const DecodePart part = schedule.part(item);
    if (spoiled(p, part.b, part.g, lse)) return;
    call.kernels.decode_received(p, part, kept.of(item / schedule.key_parts), lse, received);
  });
}

// `received.sums` other than null: what each key received is added there, which takes `out.lse`; not that of
// spoiled groups.
inline sightline_status decode(const Call& call, const sightline_problem& p, const ForwardOut& out,
                               const ReceivedOut& received = {}) {
  const Kernels& kernels = call.kernels;
  const bool context = out.context != nullptr, receiving = received.sums != nullptr;
  const DecodeSchedule schedule(p, call.threads, context, receiving);
  const int64_t row_floats = kernels.decode_row_floats(p);
  const int rows = (int)schedule.most_rows();
  const WorkerMemory scratch(schedule.workers, kernels.decode_scratch(p, rows));
  const WorkerMemory partials(
      1, sizeof(float) * row_floats * schedule.key_parts * p.batch * p.heads * p.queries);
  const WorkerMemory counters(1, sizeof(std::atomic<int64_t>) * schedule.groups);
  KeptWeights kept(schedule, receiving);
  if (!scratch.ok() || !partials.ok() || !counters.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  auto* left = reinterpret_cast<std::atomic<int64_t>*>(counters.of(0));
  for (int64_t group = 0; group < schedule.groups; group++) {
    new (left + group) std::atomic<int64_t>(schedule.key_parts);
  }
  const bool at_once = receiving && !KeptWeights::keeps_all(schedule);
  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Zones* zones = call.zones(worker);
    const int64_t group = item / schedule.key_parts;
    const DecodePart part = schedule.part(item);
    float* group_partials = reinterpret_cast<float*>(partials.of(0)) +
                            schedule.rows_before(group) * schedule.key_parts * row_floats;
    kernels.decode_part(p, part, context, {scratch.of(worker), zones}, kept.of(group),
                        group_partials + item % schedule.key_parts * part.rows * row_floats);
    // Whoever is last merges, always in the order of the keys.
    if (--left[group] > 0) return;
    {
      const Zone zone(zones, SIGHTLINE_STAGE_CONTEXT);
      kernels.decode_merge(p, part, group_partials, schedule.key_parts, out);
    }
    const Zone zone(at_once ? zones : nullptr, SIGHTLINE_STAGE_WEIGHTS);
    if (at_once) add_group(call, p, part, kept, group, out.lse, received);
  });
  if (!kept.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  if (receiving && !at_once) add_groups(call, p, schedule, kept, out.lse, received);
  return SIGHTLINE_OK;
}

}  // namespace sightline
