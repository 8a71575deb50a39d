// How the structs of the interface lie in memory, field by field.
#include <cstddef>

#include "sightline.h"

namespace {

struct Field {
  const char* name;
  int64_t offset, size, alignment;
};

struct Layout {
  const char* name;
  int64_t size;
  const Field* fields;
  int32_t count;
};

#define FIELD(type, field) \
  {#field, offsetof(type, field), sizeof(type::field), alignof(decltype(type::field))}
#define STRIDED(type, field) FIELD(type, field), FIELD(type, field##_stride)

#define PROBLEM(field) FIELD(sightline_problem, field)
#define TENSOR(field) STRIDED(sightline_problem, field)
constexpr Field problem_fields[] = {
    PROBLEM(batch),          PROBLEM(heads),      PROBLEM(kv_heads),    PROBLEM(queries),
    PROBLEM(keys),           PROBLEM(width),      PROBLEM(value_width), PROBLEM(range_count),
    PROBLEM(radius),         TENSOR(query),       TENSOR(key),          TENSOR(value),
    TENSOR(ranges),          TENSOR(visible),     TENSOR(bias),         TENSOR(slopes),
    TENSOR(table),           TENSOR(offset),      TENSOR(sinks),        PROBLEM(scale),
    PROBLEM(softcap),        PROBLEM(dtype),      PROBLEM(bias_dtype),  PROBLEM(seed),
    PROBLEM(keep_threshold), PROBLEM(keep_scale), TENSOR(visible_map),
};

#define GRADIENT(field) FIELD(sightline_gradients, field)
#define GRADIENT_TENSOR(field) STRIDED(sightline_gradients, field)
constexpr Field gradient_fields[] = {
    GRADIENT_TENSOR(context), GRADIENT(lse),          GRADIENT_TENSOR(grad_context),
    GRADIENT(grad_lse),       GRADIENT(grad_entropy), GRADIENT_TENSOR(query),
    GRADIENT_TENSOR(key),     GRADIENT_TENSOR(value), GRADIENT_TENSOR(bias),
    GRADIENT(slopes),         GRADIENT(table),        GRADIENT(sinks),
};

#define READOUT(field) FIELD(sightline_readouts, field)
constexpr Field readout_fields[] = {
    READOUT(entropy),         READOUT(received),  READOUT(max_weight),
    READOUT(max_index),       READOUT(max_score), READOUT(topk_weights),
    READOUT(topk_indices),    READOUT(distance),  READOUT(cell_sum),
    READOUT(cell_max),        READOUT(cell_seen), READOUT(row_sums),
    READOUT(key_sums),        READOUT(k),         READOUT(position),
    READOUT(position_stride), READOUT(cells),     READOUT(cell_stride),
    READOUT(cell_count),      READOUT(function),  READOUT(threshold),
};

#define PLAN(field) FIELD(sightline_plan_info, field)
constexpr Field plan_fields[] = {PLAN(path), PLAN(workers), PLAN(parts), PLAN(products)};

#define TANGENT_TENSOR(field) STRIDED(sightline_tangents, field)
constexpr Field tangent_fields[] = {
    TANGENT_TENSOR(query),
    TANGENT_TENSOR(key),
    TANGENT_TENSOR(value),
    TANGENT_TENSOR(context),
    TANGENT_TENSOR(tangent_context),
    FIELD(sightline_tangents, lse),
    FIELD(sightline_tangents, tangent_lse),
};

#define LAYOUT(type, fields) {#type, sizeof(type), fields, sizeof fields / sizeof fields[0]}
constexpr Layout layouts[] = {
    LAYOUT(sightline_problem, problem_fields),  LAYOUT(sightline_gradients, gradient_fields),
    LAYOUT(sightline_readouts, readout_fields), LAYOUT(sightline_plan_info, plan_fields),
    LAYOUT(sightline_tangents, tangent_fields),
};

constexpr int64_t round_up(int64_t offset, int64_t alignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

// A field left out of a table, or out of place there, leaves a gap that alignment does not explain.
constexpr bool complete(const Layout& layout) {
  int64_t end = 0;
  for (int32_t i = 0; i < layout.count; i++) {
    const Field& field = layout.fields[i];
    if (field.offset != round_up(end, field.alignment)) return false;
    end = field.offset + field.size;
  }
  return layout.size == round_up(end, alignof(int64_t));
}
static_assert(complete(layouts[SIGHTLINE_LAYOUT_PROBLEM]) && complete(layouts[SIGHTLINE_LAYOUT_GRADIENTS]) &&
                  complete(layouts[SIGHTLINE_LAYOUT_READOUTS]) && complete(layouts[SIGHTLINE_LAYOUT_PLAN]) &&
                  complete(layouts[SIGHTLINE_LAYOUT_TANGENTS]),
              "a table lists every field of its struct, in order");

}  // namespace

extern "C" int32_t sightline_layout(int32_t struct_id, int32_t field, const char** name, int64_t* offset,
                                    int64_t* size) {
  if (struct_id < SIGHTLINE_LAYOUT_PROBLEM || struct_id > SIGHTLINE_LAYOUT_TANGENTS) {
    return SIGHTLINE_INVALID_ARGUMENT;
  }
  const Layout& layout = layouts[struct_id];
  if (!name || !offset || !size || field < -1 || field >= layout.count) return SIGHTLINE_INVALID_ARGUMENT;
  const Field found = field < 0 ? Field{layout.name, 0, layout.size, 0} : layout.fields[field];
  *name = found.name, *offset = found.offset, *size = found.size;
  return SIGHTLINE_OK;
}
