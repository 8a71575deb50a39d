// The forward pass, and what each key received in it: one pass where few queries decode, two elsewhere.
#pragma once

#include "once/runs/forward.h"
#include "once/runs/readouts.h"

namespace sightline {

// [B,H,M] to where it is added.
inline void add_heads(const Call& call, const sightline_problem& p, const float* from,
                      const ReceivedOut& out) {
  const Zone zone(call.zones(), SIGHTLINE_STAGE_WEIGHTS);
  const int64_t group = out.grouped ? p.heads / p.kv_heads : 1;
  for (int64_t b = 0; b < p.batch; b++) {
    for (int64_t h = 0; h < p.heads; h++, from += p.keys) {
      float* to = out.sums + b * out.stride[0] + h / group * out.stride[1];
      for (int64_t k = 0; k < p.keys; k++) to[k] += from[k];
    }
  }
}

inline sightline_status forward_received(const Call& call, const sightline_problem& p, ForwardOut out,
                                         const ReceivedOut& received) {
  const WorkerMemory own(1, out.lse ? 0 : sizeof(double) * p.batch * p.heads * p.queries);
  if (!own.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  if (!out.lse) out.lse = reinterpret_cast<double*>(own.of(0));
  if (p.keys == 0) return forward(call, p, out);
  if (decodes(call.kernels, p)) return decode(call, p, out, received);
  const WorkerMemory sums(1, sizeof(float) * p.batch * p.heads * p.keys);
  if (!sums.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  if (const auto status = forward(call, p, out)) return status;
  sightline_readouts readouts = {};
  readouts.received = reinterpret_cast<float*>(sums.of(0));
  if (const auto status = readout(call, p, out.lse, readouts)) return status;
  add_heads(call, p, readouts.received, received);
  return SIGHTLINE_OK;
}

}  // namespace sightline
