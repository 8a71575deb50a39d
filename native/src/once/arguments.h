// What is looked at before anything is computed: each check says which status a call ends with.
#pragma once

#include <cmath>

#include "once/runtime/levels.h"

namespace sightline {

inline sightline_status find_kernels(int32_t level, const Kernels** kernels) {
  const Level* found = level_at(level);
  if (!found) return SIGHTLINE_UNKNOWN_LEVEL;
  if (!found->supported()) return SIGHTLINE_UNSUPPORTED_LEVEL;
  *kernels = found->kernels;
  return SIGHTLINE_OK;
}

inline bool sizes_valid(const sightline_problem& p) {
  if (p.batch < 0 || p.heads < 0 || p.queries < 0 || p.keys < 0 || p.width < 0 || p.value_width < 0)
    return false;
  if (p.keys > INT32_MAX - 1 || p.queries > INT32_MAX - 1) return false;
  return p.heads == 0 || (p.kv_heads > 0 && p.heads % p.kv_heads == 0);
}

inline bool dtype_valid(int32_t dtype) { return dtype >= SIGHTLINE_FLOAT32 && dtype <= SIGHTLINE_FLOAT16; }

inline bool terms_valid(const sightline_problem& p) {
  if (!dtype_valid(p.dtype) || (p.bias && !dtype_valid(p.bias_dtype))) return false;
  if (std::isnan(p.scale) || !(p.softcap >= 0) || std::isinf(p.softcap)) return false;
  if (p.ranges && p.range_count < 0) return false;
  return !p.table || p.radius >= 0;
}

inline bool has_rows(const sightline_problem& p) { return p.batch > 0 && p.heads > 0 && p.queries > 0; }

inline bool same_rows(const sightline_problem& p, const sightline_problem& whole) {
  return p.batch == whole.batch && p.heads == whole.heads && p.queries == whole.queries;
}

inline bool inputs_valid(const sightline_problem& p, bool need_value) {
  if (!has_rows(p) || p.keys == 0) return true;
  if (p.width > 0 && (!p.query || !p.key)) return false;
  return !need_value || p.value_width == 0 || p.value;
}

inline sightline_status check_problem(const sightline_problem* p, int32_t threads, bool need_value) {
  if (!p || threads < 1 || !sizes_valid(*p) || !terms_valid(*p) || !inputs_valid(*p, need_value)) {
    return SIGHTLINE_INVALID_ARGUMENT;
  }
  return SIGHTLINE_OK;
}

inline sightline_status check_gradients(const sightline_problem& p, const sightline_gradients* g) {
  if (!g) return SIGHTLINE_INVALID_ARGUMENT;
  if (!has_rows(p)) return SIGHTLINE_OK;
  if (!g->lse || (p.value_width > 0 && (!g->context || !g->grad_context))) return SIGHTLINE_INVALID_ARGUMENT;
  const bool missing =
      (g->bias && !p.bias) || (g->slopes && !p.slopes) || (g->table && !p.table) || (g->sinks && !p.sinks);
  return missing ? SIGHTLINE_INVALID_ARGUMENT : SIGHTLINE_OK;
}

inline sightline_status check_tangents(const sightline_problem& p, const sightline_tangents* t) {
  if (!t || p.keep_scale != 0) return SIGHTLINE_INVALID_ARGUMENT;
  if (!has_rows(p)) return SIGHTLINE_OK;
  const bool contexts = p.value_width == 0 || (t->context && t->tangent_context);
  return contexts && t->lse && t->tangent_lse ? SIGHTLINE_OK : SIGHTLINE_INVALID_ARGUMENT;
}

// Cells are looked through, as a stray one would be written beside the sums.
inline bool cells_valid(const sightline_problem& p, const sightline_readouts& out) {
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

inline sightline_status check_readouts(const sightline_problem& p, const sightline_readouts* out) {
  if (!out) return SIGHTLINE_INVALID_ARGUMENT;
  const bool topk = out->topk_weights || out->topk_indices;
  if (topk && (out->k < 1 || out->k > kMaxTopk)) return SIGHTLINE_INVALID_ARGUMENT;
  if (out->received && out->key_sums) return SIGHTLINE_INVALID_ARGUMENT;
  if (out->function < SIGHTLINE_WEIGHT || out->function > SIGHTLINE_WEIGHT_ABOVE)
    return SIGHTLINE_INVALID_ARGUMENT;
  return cells_valid(p, *out) ? SIGHTLINE_OK : SIGHTLINE_INVALID_ARGUMENT;
}

inline sightline_status check_linear(const Linear& p) {
  const bool well = p.out && (p.depth == 0 || (p.a && p.packed));
  return well ? SIGHTLINE_OK : SIGHTLINE_INVALID_ARGUMENT;
}

}  // namespace sightline
