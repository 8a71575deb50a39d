// The C interface: checks arguments, allocates scratch, and runs the kernels over the schedule.
#include <chrono>
#include <cmath>
#include <cstring>

#include "backward_run.h"
#include "decode_schedule.h"
#include "levels.h"
#include "make_mask_map.h"
#include "schedule.h"
#include "threads.h"

namespace sightline {
namespace {

// --- Arguments ---

sightline_status find_kernels(int32_t level, const Kernels** kernels) {
  const Level* found = level_at(level);
  if (!found) return SIGHTLINE_UNKNOWN_LEVEL;
  if (!found->supported()) return SIGHTLINE_UNSUPPORTED_LEVEL;
  *kernels = found->kernels;
  return SIGHTLINE_OK;
}

bool sizes_valid(const sightline_problem& p) {
  if (p.batch < 0 || p.heads < 0 || p.queries < 0 || p.keys < 0 || p.width < 0 || p.value_width < 0)
    return false;
  if (p.keys > INT32_MAX - 1 || p.queries > INT32_MAX - 1) return false;
  return p.heads == 0 || (p.kv_heads > 0 && p.heads % p.kv_heads == 0);
}

bool dtype_valid(int32_t dtype) { return dtype >= SIGHTLINE_FLOAT32 && dtype <= SIGHTLINE_FLOAT16; }

bool terms_valid(const sightline_problem& p) {
  if (!dtype_valid(p.dtype) || (p.bias && !dtype_valid(p.bias_dtype))) return false;
  if (std::isnan(p.scale) || !(p.softcap >= 0) || std::isinf(p.softcap)) return false;
  if (p.ranges && p.range_count < 0) return false;
  return !p.table || p.radius >= 0;
}

bool has_rows(const sightline_problem& p) { return p.batch > 0 && p.heads > 0 && p.queries > 0; }

bool inputs_valid(const sightline_problem& p, bool need_value) {
  if (!has_rows(p) || p.keys == 0) return true;
  if (p.width > 0 && (!p.query || !p.key)) return false;
  return !need_value || p.value_width == 0 || p.value;
}

sightline_status check_problem(const sightline_problem* p, int32_t threads, bool need_value) {
  if (!p || threads < 1 || !sizes_valid(*p) || !terms_valid(*p) || !inputs_valid(*p, need_value)) {
    return SIGHTLINE_INVALID_ARGUMENT;
  }
  return SIGHTLINE_OK;
}

sightline_status check_gradients(const sightline_problem& p, const sightline_gradients* g) {
  if (!g) return SIGHTLINE_INVALID_ARGUMENT;
  if (!has_rows(p)) return SIGHTLINE_OK;
  if (!g->lse || (p.value_width > 0 && (!g->context || !g->grad_context))) return SIGHTLINE_INVALID_ARGUMENT;
  const bool missing =
      (g->bias && !p.bias) || (g->slopes && !p.slopes) || (g->table && !p.table) || (g->sinks && !p.sinks);
  return missing ? SIGHTLINE_INVALID_ARGUMENT : SIGHTLINE_OK;
}

// Cells are looked through, as a stray one would be written beside the sums.
bool cells_valid(const sightline_problem& p, const sightline_readouts& out) {
  if (!out.cell_sum && !out.cell_max && !out.cell_seen) return true;
  if (out.cell_count < 0 || out.cell_count > INT32_MAX || (p.keys > 0 && !out.cells)) return false;
  for (int64_t b = 0; b < (out.cell_stride ? p.batch : 1); b++) {
    const int32_t* cells = out.cells + b * out.cell_stride;
    for (int64_t key = 0; key < p.keys; key++) {
      if (cells[key] < 0 || cells[key] >= out.cell_count) return false;
    }
  }
  return true;
}

sightline_status check_readouts(const sightline_problem& p, const sightline_readouts* out) {
  if (!out) return SIGHTLINE_INVALID_ARGUMENT;
  const bool topk = out->topk_weights || out->topk_indices;
  if (topk && (out->k < 1 || out->k > kMaxTopk)) return SIGHTLINE_INVALID_ARGUMENT;
  return cells_valid(p, *out) ? SIGHTLINE_OK : SIGHTLINE_INVALID_ARGUMENT;
}

// --- Forward ---

sightline_status forward(const Kernels& kernels, int32_t threads, const sightline_problem& given,
                         const ForwardOut& out) {
  if (decodes(kernels, given)) return decode(kernels, threads, given, out);
  const MaskMap map(given, threads);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  const sightline_problem& p = map.problem();
  const Schedule schedule(kernels, p, threads, out.context != nullptr, false);
  const WorkerMemory scratch(schedule.workers, kernels.forward_scratch(p));
  Packings packings(schedule);
  if (!scratch.ok() || !packings.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Part part = schedule.part(item);
    const PackedHead packed = packings.of(worker, part);
    for (int64_t i = part.begin; i < part.end; i += kernels.block_rows) {
      kernels.forward_block(p, packed, part.b, part.h, i, scratch.of(worker), out);
    }
  });
  return SIGHTLINE_OK;
}

sightline_plan_info plan_forward(const Kernels& kernels, int32_t threads, const sightline_problem& p,
                                 bool context) {
  const int32_t pairs = kernels.pairs && p.dtype == SIGHTLINE_BFLOAT16;
  if (decodes(kernels, p)) {
    const DecodeSchedule schedule(p, threads, context);
    return {SIGHTLINE_DECODE, schedule.workers, schedule.parts(), pairs};
  }
  const Schedule schedule(kernels, p, threads, context, false);
  return {SIGHTLINE_BLOCKS, schedule.workers, schedule.parts(), pairs};
}

// --- Readouts ---

// What keys receive is a sum over queries: each part sums into memory of its own, and the parts of a head are
// merged in order, so that the result does not depend on who was faster.
void merge_parts(const Schedule& schedule, const sightline_problem& p, const float* sums, float* received) {
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

sightline_status readout(const Kernels& kernels, int32_t threads, const sightline_problem& given,
                         const float* lse, const sightline_readouts& out) {
  const MaskMap map(given, threads);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  const sightline_problem& p = map.problem();
  const bool summing = out.received && p.keys > 0;
  const Schedule schedule(kernels, p, threads, false, summing);
  const size_t lane_bytes = summing ? kernels.received_floats(p.keys) * sizeof(float) : 0;
  const WorkerMemory scratch(schedule.workers, kernels.readout_scratch(p, out));
  Packings packings(schedule);
  const WorkerMemory lanes(schedule.workers, lane_bytes);
  const bool merging = summing && schedule.per_head > 1;
  const WorkerMemory sums(1, merging ? sizeof(float) * schedule.parts() * p.keys : 0);
  if (!scratch.ok() || !packings.ok() || !lanes.ok() || !sums.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  float* part_sums = merging ? reinterpret_cast<float*>(sums.of(0)) : out.received;

  parallel_for(schedule.workers, schedule.parts(), [&](int worker, int64_t item) {
    const Part part = schedule.part(item);
    const PackedHead packed = packings.of(worker, part);
    float* received = summing ? reinterpret_cast<float*>(lanes.of(worker)) : nullptr;
    if (summing) memset(received, 0, lane_bytes);
    for (int64_t i = part.begin; i < part.end; i += kernels.block_rows) {
      kernels.readout_block(p, packed, part.b, part.h, i, scratch.of(worker), lse, out, received);
    }
    if (!summing) return;
    kernels.fold_received(received, p.keys);
    memcpy(part_sums + item * p.keys, received, sizeof(float) * p.keys);
  });
  if (merging) merge_parts(schedule, p, part_sums, out.received);
  return SIGHTLINE_OK;
}

// --- Peaks ---

double best_gflops(double (*burst)(), double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double best = 0;
  do {
    const auto before = Clock::now();
    const double operations = burst();
    const double elapsed = std::chrono::duration<double>(Clock::now() - before).count();
    if (elapsed > 0 && operations / elapsed > best) best = operations / elapsed;
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  return best * 1e-9;
}

}  // namespace
}  // namespace sightline

using namespace sightline;

extern "C" {

int32_t sightline_abi(void) { return SIGHTLINE_ABI; }
int32_t sightline_level_count(void) { return level_count(); }
int32_t sightline_max_topk(void) { return kMaxTopk; }

const char* sightline_level_name(int32_t level) {
  const Level* found = level_at(level);
  return found ? found->name : nullptr;
}

int32_t sightline_level_supported(int32_t level) {
  const Level* found = level_at(level);
  return found && found->supported();
}

int32_t sightline_forward(int32_t level, int32_t threads, const sightline_problem* problem, void* context,
                          const int64_t context_stride[3], float* lse) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, context != nullptr)) return status;
  if (context && !context_stride) return SIGHTLINE_INVALID_ARGUMENT;
  if (!has_rows(*problem) || (!context && !lse)) return SIGHTLINE_OK;
  ForwardOut out = {context, {0, 0, 0}, lse};
  if (context) memcpy(out.context_stride, context_stride, sizeof out.context_stride);
  return forward(*kernels, threads, *problem, out);
}

int32_t sightline_plan(int32_t level, int32_t threads, const sightline_problem* problem, int32_t context,
                       sightline_plan_info* plan) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (!plan) return SIGHTLINE_INVALID_ARGUMENT;
  if (const auto status = check_problem(problem, threads, context != 0)) return status;
  *plan = has_rows(*problem) ? plan_forward(*kernels, threads, *problem, context != 0)
                             : sightline_plan_info{SIGHTLINE_BLOCKS, 1, 0, 0};
  return SIGHTLINE_OK;
}

int32_t sightline_backward(int32_t level, int32_t threads, const sightline_problem* problem,
                           const sightline_gradients* gradients) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, true)) return status;
  if (const auto status = check_gradients(*problem, gradients)) return status;
  if (problem->kv_heads == 0) return SIGHTLINE_OK;
  const MaskMap map(*problem, threads);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  return Backward(*kernels, map.problem(), *gradients, threads).run();
}

int32_t sightline_readout(int32_t level, int32_t threads, const sightline_problem* problem, const float* lse,
                          const sightline_readouts* out) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, false)) return status;
  if (const auto status = check_readouts(*problem, out)) return status;
  if (!has_rows(*problem)) {  // nobody looks: keys receive nothing
    const int64_t sums = problem->batch * problem->heads * problem->keys;
    if (out->received) memset(out->received, 0, sizeof(float) * sums);
    return SIGHTLINE_OK;
  }
  if (!lse) return SIGHTLINE_INVALID_ARGUMENT;
  return readout(*kernels, threads, *problem, lse, *out);
}

double sightline_peak_gflops(int32_t level, double seconds) {
  const Kernels* kernels;
  return find_kernels(level, &kernels) ? 0 : best_gflops(kernels->peak_burst, seconds);
}

double sightline_peak_dot_gflops(int32_t level, double seconds) {
  const Kernels* kernels;
  if (find_kernels(level, &kernels) || !kernels->peak_dot_burst) return 0;
  return best_gflops(kernels->peak_dot_burst, seconds);
}
}
