// The C interface: checks arguments, and runs what they ask for.
#include <cstring>

#include "once/arguments.h"
#include "once/runs/backward.h"
#include "once/runs/blocks_again.h"
#include "once/runs/forward.h"
#include "once/runs/linear.h"
#include "once/runs/peak.h"
#include "once/runs/readouts.h"
#include "once/runs/received.h"
#include "once/runs/tangent.h"

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

int32_t sightline_best_level(void) {
  int32_t best = 0;
  for (int32_t i = 0; i < level_count(); i++) {
    if (level_at(i)->supported() && level_at(i)->pays()) best = i;
  }
  return best;
}

int32_t sightline_forward(int32_t level, int32_t threads, const sightline_problem* problem, void* context,
                          const int64_t context_stride[3], double* lse) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, context != nullptr)) return status;
  if (context && !context_stride) return SIGHTLINE_INVALID_ARGUMENT;
  if (!has_rows(*problem) || (!context && !lse)) return SIGHTLINE_OK;
  ForwardOut out = {context, {0, 0, 0}, lse};
  if (context) memcpy(out.context_stride, context_stride, sizeof out.context_stride);
  return forward(Call(*kernels, threads), *problem, out);
}

int32_t sightline_forward_received(int32_t level, int32_t threads, const sightline_problem* problem,
                                   void* context, const int64_t context_stride[3], double* lse,
                                   float* received, const int64_t received_stride[2],
                                   int32_t received_heads) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, context != nullptr)) return status;
  if ((context && !context_stride) || !received_stride) return SIGHTLINE_INVALID_ARGUMENT;
  if (!has_rows(*problem)) return SIGHTLINE_OK;
  const bool fits = received_heads == problem->heads || received_heads == problem->kv_heads;
  if (!fits || (problem->keys > 0 && !received)) return SIGHTLINE_INVALID_ARGUMENT;
  ForwardOut out = {context, {0, 0, 0}, lse};
  if (context) memcpy(out.context_stride, context_stride, sizeof out.context_stride);
  const ReceivedOut sums = {
      received, {received_stride[0], received_stride[1]}, received_heads != problem->heads};
  return forward_received(Call(*kernels, threads), *problem, out, sums);
}

int32_t sightline_tangent(int32_t level, int32_t threads, const sightline_problem* problem,
                          const sightline_tangents* tangents) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, true)) return status;
  if (const auto status = check_tangents(*problem, tangents)) return status;
  if (!has_rows(*problem)) return SIGHTLINE_OK;
  return tangent(Call(*kernels, threads), *problem, *tangents);
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
  const Call call(*kernels, threads);
  const BlocksAgain again(call, *problem, gradients->lse, true);
  if (const auto status = again.status()) return status;
  sightline_gradients given = *gradients;
  if (again.needed()) {
    given.lse = again.out().lse, given.context = again.out().context;
    memcpy(given.context_stride, again.out().context_stride, sizeof given.context_stride);
  }
  const MaskMap map(call, *problem);
  if (!map.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  return Backward(call, map.problem(), given).run();
}

int32_t sightline_readout(int32_t level, int32_t threads, const sightline_problem* problem,
                          const sightline_problem* whole, const double* lse, const sightline_readouts* out) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (const auto status = check_problem(problem, threads, false)) return status;
  if (const auto status = check_readouts(*problem, out)) return status;
  if (!has_rows(*problem)) {  // nobody looks: keys receive nothing
    const int64_t sums = problem->batch * problem->heads * problem->keys;
    for (float* of_keys : {out->received, out->key_sums}) {
      if (of_keys) memset(of_keys, 0, sizeof(float) * sums);
    }
    return SIGHTLINE_OK;
  }
  if (!lse) return SIGHTLINE_INVALID_ARGUMENT;
  if (whole) {
    if (const auto status = check_problem(whole, threads, false)) return status;
    if (!same_rows(*problem, *whole)) return SIGHTLINE_INVALID_ARGUMENT;
  }
  const Call call(*kernels, threads);
  const BlocksAgain again(call, whole ? *whole : *problem, lse, false);
  if (const auto status = again.status()) return status;
  return readout(call, *problem, again.needed() ? again.out().lse : lse, *out);
}

int64_t sightline_linear_floats(int32_t level, int64_t columns, int64_t depth) {
  const Kernels* kernels;
  if (find_kernels(level, &kernels) || columns < 0 || depth < 0) return -1;
  return kernels->linear_floats(columns, depth);
}

int32_t sightline_linear_pack(int32_t level, int32_t threads, int64_t columns, int64_t depth,
                              const float* weight, const int64_t weight_stride[2], float* packed) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (threads < 1 || columns < 0 || depth < 0) return SIGHTLINE_INVALID_ARGUMENT;
  if (columns == 0 || depth == 0) return SIGHTLINE_OK;
  if (!weight || !weight_stride || !packed) return SIGHTLINE_INVALID_ARGUMENT;
  const LinearWeight whole = {columns, depth, weight, {weight_stride[0], weight_stride[1]}};
  return pack_linear(Call(*kernels, threads), whole, packed);
}

int32_t sightline_linear(int32_t level, int32_t threads, int64_t rows, int64_t columns, int64_t depth,
                         const float* a, const int64_t a_stride[2], const float* packed, const float* bias,
                         float* out, int64_t out_stride) {
  const Kernels* kernels;
  if (const auto status = find_kernels(level, &kernels)) return status;
  if (threads < 1 || rows < 0 || columns < 0 || depth < 0) return SIGHTLINE_INVALID_ARGUMENT;
  if (rows == 0 || columns == 0) return SIGHTLINE_OK;
  if (!a_stride) return SIGHTLINE_INVALID_ARGUMENT;
  const Linear p = {rows, columns, depth, a, {a_stride[0], a_stride[1]}, packed, bias, out, out_stride};
  if (const auto status = check_linear(p)) return status;
  return linear(Call(*kernels, threads), p);
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
