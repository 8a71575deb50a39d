// The forward pass, and what each key received in it: one pass where few queries decode, two elsewhere.
#pragma once

#include "once/runs/forward.h"
#include "once/runs/readouts.h"

namespace sightline {

// What a readout pass reads off, [B,H,M], to where it is added: for all groups, or for spoiled ones alone.
inline sightline_status read_received(const Call& call, const sightline_problem& p, const double* lse,
                                      const ReceivedOut& out, bool all) {
  const WorkerMemory sums(1, sizeof(float) * p.batch * p.heads * p.keys);
  if (!sums.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  sightline_readouts readouts = {};
  readouts.received = reinterpret_cast<float*>(sums.of(0));
  if (const auto status = readout(call, p, lse, readouts)) return status;
  const Zone zone(call.zones(), SIGHTLINE_STAGE_WEIGHTS);
  const int64_t group = p.heads / p.kv_heads;
  const float* from = readouts.received;
  for (int64_t b = 0; b < p.batch; b++) {
    for (int64_t h = 0; h < p.heads; h++, from += p.keys) {
      if (!all && !spoiled(p, b, h / group, lse)) continue;
      float* to = out.sums + b * out.stride[0] + (out.grouped ? h / group : h) * out.stride[1];
      for (int64_t k = 0; k < p.keys; k++) to[k] += from[k];
    }
  }
  return SIGHTLINE_OK;
}

inline bool any_spoiled(const sightline_problem& p, const double* lse) {
  for (int64_t b = 0; b < p.batch; b++) {
    for (int64_t g = 0; g < p.kv_heads; g++) {
      if (spoiled(p, b, g, lse)) return true;
    }
  }
  return false;
}

inline sightline_status forward_received(const Call& call, const sightline_problem& p, ForwardOut out,
                                         const ReceivedOut& received) {
  const WorkerMemory own(1, out.lse ? 0 : sizeof(double) * p.batch * p.heads * p.queries);
  if (!own.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  if (!out.lse) out.lse = reinterpret_cast<double*>(own.of(0));
  if (p.keys == 0) return forward(call, p, out);
  if (!decodes(call.kernels, p)) {
    if (const auto status = forward(call, p, out)) return status;
    return read_received(call, p, out.lse, received, true);
  }
  if (const auto status = decode(call, p, out, received)) return status;
  return any_spoiled(p, out.lse) ? read_received(call, p, out.lse, received, false) : SIGHTLINE_OK;
}

}  // namespace sightline
