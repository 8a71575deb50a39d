/* Checks a build of the core on the machine it is meant for: `check [--no-fork] FILE [LEVEL ...]`.
 *
 * Loads FILE, and compares forward, backward, decode, readouts and linear layers of every level and dtype
 * with the definition in double. The levels that can run must be the ones named, where any are. Prints a line
 * for each comparison; --no-fork: no process is forked, which some emulators cannot bear. Ends with 0 where
 * all is well, 1 where something is wrong, 2 where FILE cannot be loaded.
 *
 * Needs neither Python nor PyTorch, which other systems' emulators would have to run too. */
#include <stddef.h>
#include <stdio.h>

#include "definition.h"
#include "library.h"

#if !defined(_WIN32)
#include <sys/wait.h>
#include <unistd.h>
#endif

enum { kThreads = 3, kTop = 3 };

static Library core;
static int wrong = 0, forks = 1;

static void expect(int well, const char* level, const char* what) {
  if (!well) wrong = 1, printf("WRONG %s: %s\n", level, what);
}

/* The problem as the core takes it. Terms are float32. */
typedef struct {
  sightline_problem problem;
  const char* level;
  const Definition* definition;
  int number;
  int32_t dtype;
} Run;

static void* as_dtype(const double* numbers, int64_t count, int32_t dtype) {
  if (!numbers) return NULL;
  void* made = room((size_t)count, element_size(dtype));
  for (int64_t at = 0; at < count; at++) put(made, at, dtype, numbers[at]);
  return made;
}

static void set_strides(int64_t* strides, int64_t heads, int64_t rows, int64_t columns) {
  strides[0] = heads * rows * columns, strides[1] = rows * columns, strides[2] = columns;
}

static Run run_of(const Definition* d, int number, int32_t dtype) {
  Run run = {{0}, core.level_name(number), d, number, dtype};
  sightline_problem* p = &run.problem;
  const int64_t rows = d->batch * d->heads * d->queries, keys = d->batch * d->kv_heads * d->keys;
  p->batch = d->batch, p->heads = d->heads, p->kv_heads = d->kv_heads;
  p->queries = d->queries, p->keys = d->keys, p->width = d->width, p->value_width = d->value_width;
  p->query = as_dtype(d->query, rows * d->width, dtype);
  p->key = as_dtype(d->key, keys * d->width, dtype);
  p->value = as_dtype(d->value, keys * d->value_width, dtype);
  set_strides(p->query_stride, d->heads, d->queries, d->width);
  set_strides(p->key_stride, d->kv_heads, d->keys, d->width);
  set_strides(p->value_stride, d->kv_heads, d->keys, d->value_width);
  p->ranges = d->ranges, p->range_count = d->ranges ? 1 : 0, p->ranges_stride[2] = 2;
  p->bias = as_dtype(d->bias, rows * d->keys, SIGHTLINE_FLOAT32);
  set_strides(p->bias_stride, d->heads, d->queries, d->keys);
  p->bias_stride[3] = 1;
  p->slopes = (const float*)as_dtype(d->slopes, d->heads, SIGHTLINE_FLOAT32), p->slopes_stride[1] = 1;
  p->sinks = (const float*)as_dtype(d->sinks, d->heads, SIGHTLINE_FLOAT32), p->sinks_stride[0] = 1;
  p->scale = (float)d->scale, p->softcap = (float)d->softcap;
  p->dtype = dtype, p->bias_dtype = SIGHTLINE_FLOAT32;
  return run;
}

static void free_run(Run* run) {
  const sightline_problem* p = &run->problem;
  const void* all[] = {p->query, p->key, p->value, p->bias, p->slopes, p->sinks};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void*)all[i]);
}

/* The largest difference, as a share of the largest number; both infinite counts as equal. */
static void compare(const Run* run, const char* what, const double* expected, const void* found,
                    int32_t dtype, int64_t count) {
  static const char* const names[] = {"float32", "bfloat16", "float16"};
  static const double allowed[] = {1e-5, 1.5e-2, 2e-3};
  double largest = 1e-3, off = 0;
  for (int64_t at = 0; at < count; at++) {
    const double got = dtype < 0 ? ((const double*)found)[at] : get(found, at, dtype);
    if (!isinf(expected[at])) largest = fmax(largest, fabs(expected[at]));
    if (got == expected[at]) continue;
    const double difference = fabs(got - expected[at]);
    off = difference <= off ? off : difference; /* a NaN counts, too */
  }
  const int well = off / largest <= allowed[run->dtype];
  if (!well) wrong = 1;
  printf("%s %s %s, %s: off by %.1e, at most %.1e\n", well ? "right" : "WRONG", run->level, names[run->dtype],
         what, off / largest, allowed[run->dtype]);
}

static void* forward(const Run* run, int32_t threads, double* lse) {
  const Definition* d = run->definition;
  const int64_t rows = d->batch * d->heads * d->queries;
  void* context = room((size_t)(rows * d->value_width), element_size(run->dtype));
  int64_t strides[3];
  set_strides(strides, d->heads, d->queries, d->value_width);
  expect(core.forward(run->number, threads, &run->problem, context, strides, lse) == SIGHTLINE_OK, run->level,
         "forward");
  return context;
}

static void check_gradients(const Run* run, const void* context, const double* lse) {
  const Definition* d = run->definition;
  const sightline_problem* p = &run->problem;
  const int64_t rows = d->batch * d->heads * d->queries, keys = d->batch * d->kv_heads * d->keys;
  const size_t size = element_size(run->dtype);
  sightline_gradients g = {0};
  g.context = context, g.lse = lse;
  set_strides(g.context_stride, d->heads, d->queries, d->value_width);
  memcpy(g.grad_context_stride, g.context_stride, sizeof g.context_stride);
  g.grad_context = as_dtype(d->grad_context, rows * d->value_width, run->dtype);
  g.grad_lse = (const float*)as_dtype(d->grad_lse, rows, SIGHTLINE_FLOAT32);
  g.query = room((size_t)(rows * d->width), size), g.key = room((size_t)(keys * d->width), size);
  g.value = room((size_t)(keys * d->value_width), size);
  memcpy(g.query_stride, p->query_stride, sizeof g.query_stride);
  memcpy(g.key_stride, p->key_stride, sizeof g.key_stride);
  memcpy(g.value_stride, p->value_stride, sizeof g.value_stride);
  memcpy(g.bias_stride, p->bias_stride, sizeof g.bias_stride);
  if (d->bias) g.bias = room((size_t)(rows * d->keys), sizeof(float));
  if (d->slopes) g.slopes = (float*)room((size_t)d->heads, sizeof(float));
  if (d->sinks) g.sinks = (float*)room((size_t)d->heads, sizeof(float));
  expect(core.backward(run->number, kThreads, p, &g) == SIGHTLINE_OK, run->level, "backward");
  compare(run, "grad_query", d->grad_query, g.query, run->dtype, rows * d->width);
  compare(run, "grad_key", d->grad_key, g.key, run->dtype, keys * d->width);
  compare(run, "grad_value", d->grad_value, g.value, run->dtype, keys * d->value_width);
  if (d->bias) compare(run, "grad_bias", d->grad_bias, g.bias, SIGHTLINE_FLOAT32, rows * d->keys);
  if (d->slopes) compare(run, "grad_slopes", d->grad_slopes, g.slopes, SIGHTLINE_FLOAT32, d->heads);
  if (d->sinks) compare(run, "grad_sinks", d->grad_sinks, g.sinks, SIGHTLINE_FLOAT32, d->heads);
  const void* all[] = {g.grad_context, g.grad_lse, g.query, g.key, g.value, g.bias, g.slopes, g.sinks};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free((void*)all[i]);
}

/* The weights at the keys found must be the largest ones, in order. */
static void check_top(const Run* run, const float* found, const int64_t* keys) {
  const Definition* d = run->definition;
  const int64_t rows = d->batch * d->heads * d->queries;
  double *expected = (double*)room((size_t)(rows * kTop), sizeof(double)),
         *at_keys = (double*)room((size_t)(rows * kTop), sizeof(double));
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t j = 0; j < d->keys; j++) {
      double weight = d->weights[row * d->keys + j];
      for (int place = 0; place < kTop; place++) {
        double* const here = expected + row * kTop + place;
        const double pushed = *here;
        if (weight > pushed) *here = weight, weight = pushed;
      }
    }
    for (int place = 0; place < kTop; place++) {
      const int64_t key = keys[row * kTop + place];
      expect(key >= -1 && key < d->keys, run->level, "a key that is not there");
      at_keys[row * kTop + place] = key < 0 || key >= d->keys ? 0 : d->weights[row * d->keys + key];
    }
  }
  compare(run, "topk weights", expected, found, SIGHTLINE_FLOAT32, rows * kTop);
  compare(run, "topk keys", expected, at_keys, -1, rows * kTop);
  free(expected), free(at_keys);
}

static void check_readouts(const Run* run, const double* lse) {
  const Definition* d = run->definition;
  const int64_t rows = d->batch * d->heads * d->queries, keys = d->batch * d->heads * d->keys;
  sightline_readouts out = {0};
  out.entropy = (float*)room((size_t)rows, sizeof(float));
  out.distance = (float*)room((size_t)rows, sizeof(float));
  out.received = (float*)room((size_t)keys, sizeof(float));
  out.topk_weights = (float*)room((size_t)(rows * kTop), sizeof(float));
  out.topk_indices = (int64_t*)room((size_t)(rows * kTop), sizeof(int64_t));
  out.k = kTop;
  expect(core.readout(run->number, kThreads, &run->problem, NULL, lse, &out) == SIGHTLINE_OK, run->level,
         "readouts");
  compare(run, "entropy", d->entropy, out.entropy, SIGHTLINE_FLOAT32, rows);
  compare(run, "distance", d->distance, out.distance, SIGHTLINE_FLOAT32, rows);
  compare(run, "received", d->received, out.received, SIGHTLINE_FLOAT32, keys);
  check_top(run, out.topk_weights, out.topk_indices);
  free(out.entropy), free(out.distance), free(out.received), free(out.topk_weights), free(out.topk_indices);
}

/* A forked process has none of the threads that have just helped. */
static void check_forked(const Run* run, const void* context, size_t bytes) {
#if defined(_WIN32)
  (void)run, (void)context, (void)bytes;
#else
  if (!forks) return;
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    double* lse = numbers(run->definition->batch * run->definition->heads * run->definition->queries,
                          &(uint32_t){0}, 0);
    _exit(memcmp(context, forward(run, kThreads, lse), bytes) != 0);
  }
  int status = 1;
  expect(child > 0 && waitpid(child, &status, 0) == child && status == 0, run->level, "a forked process");
#endif
}

static void check_problem(const Definition* d, int number, int32_t dtype, sightline_path path) {
  Run run = run_of(d, number, dtype);
  const int64_t rows = d->batch * d->heads * d->queries;
  const size_t bytes = (size_t)(rows * d->value_width) * element_size(dtype);
  double *lse = numbers(rows, &(uint32_t){0}, 0), *alone = numbers(rows, &(uint32_t){0}, 0);
  sightline_plan_info plan;
  expect(core.plan(number, kThreads, &run.problem, 1, &plan) == SIGHTLINE_OK && plan.path == (int32_t)path,
         run.level, "the plan");
  void *context = forward(&run, kThreads, lse), *of_one = forward(&run, 1, alone);
  expect(!memcmp(context, of_one, bytes) && !memcmp(lse, alone, sizeof(double) * (size_t)rows), run.level,
         "one thread computes something else than several");
  compare(&run, path == SIGHTLINE_DECODE ? "decode" : "forward", d->context, context, dtype,
          rows * d->value_width);
  compare(&run, "lse", d->lse, lse, -1, rows);
  check_gradients(&run, context, lse);
  check_readouts(&run, lse);
  check_forked(&run, context, bytes);
  free(context), free(of_one), free(lse), free(alone), free_run(&run);
}

/* [rows,columns] -> [columns,rows]. */
static float* turned(const float* from, int rows, int columns) {
  float* to = (float*)room((size_t)rows * columns, sizeof(float));
  for (int r = 0; r < rows; r++)
    for (int c = 0; c < columns; c++) to[c * rows + r] = from[r * columns + c];
  return to;
}

/* A linear layer with more inputs than one cut has, and sizes that no vector divides; both operands as they
 * are, and transposed. */
static void check_linear(int32_t level, int transposed) {
  enum { kRows = 31, kColumns = 70, kDepth = 901, kWide = kColumns + 3 };
  const Run run = {{0}, core.level_name(level), NULL, level, SIGHTLINE_FLOAT32};
  const int64_t row_stride[2] = {transposed ? 1 : kDepth, transposed ? kRows : 1},
                column_stride[2] = {transposed ? 1 : kDepth, transposed ? kColumns : 1};
  uint32_t state = 7;
  double *a = numbers(kRows * kDepth, &state, 1), *weight = numbers(kColumns * kDepth, &state, 1),
         *bias = numbers(kColumns, &state, 1), *expected = numbers(kRows * kColumns, &state, 0);
  float *rows = (float*)as_dtype(a, kRows * kDepth, SIGHTLINE_FLOAT32),
        *columns = (float*)as_dtype(weight, kColumns * kDepth, SIGHTLINE_FLOAT32),
        *rows_turned = turned(rows, kRows, kDepth), *columns_turned = turned(columns, kColumns, kDepth),
        *added = (float*)as_dtype(bias, kColumns, SIGHTLINE_FLOAT32),
        *packed = (float*)room((size_t)core.linear_floats(level, kColumns, kDepth), sizeof(float)),
        *wide = (float*)room(kRows * kWide, sizeof(float)),
        *found = (float*)room(kRows * kColumns, sizeof(float));
  for (int r = 0; r < kRows; r++) {
    for (int c = 0; c < kColumns; c++) {
      expected[r * kColumns + c] = bias[c];
      for (int d = 0; d < kDepth; d++)
        expected[r * kColumns + c] += a[r * kDepth + d] * weight[c * kDepth + d];
    }
  }
  expect(core.linear_pack(level, kThreads, kColumns, kDepth, transposed ? columns_turned : columns,
                          column_stride, packed) == SIGHTLINE_OK,
         run.level, "packing weights");
  expect(core.linear(level, kThreads, kRows, kColumns, kDepth, transposed ? rows_turned : rows, row_stride,
                     packed, added, wide, kWide) == SIGHTLINE_OK,
         run.level, "a linear layer");
  for (int r = 0; r < kRows; r++) {
    memcpy(found + r * kColumns, wide + r * kWide, kColumns * sizeof(float));
    for (int c = kColumns; c < kWide; c++)
      expect(wide[r * kWide + c] == 0, run.level, "written beside a row");
  }
  compare(&run, "linear layer", expected, found, SIGHTLINE_FLOAT32, kRows * kColumns);
  void* all[] = {a,           weight,         bias,  expected, rows, columns,
                 rows_turned, columns_turned, added, packed,   wide, found};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static void check_layout(void) {
  const char* name = NULL;
  int64_t offset = -1, size = -1;
  expect(core.layout(SIGHTLINE_LAYOUT_PROBLEM, -1, &name, &offset, &size) == SIGHTLINE_OK &&
             size == (int64_t)sizeof(sightline_problem),
         "library", "the problem's size");
  expect(core.layout(SIGHTLINE_LAYOUT_READOUTS, -1, &name, &offset, &size) == SIGHTLINE_OK &&
             size == (int64_t)sizeof(sightline_readouts),
         "library", "the readouts' size");
  expect(core.abi() == SIGHTLINE_ABI, "library", "another version of the interface");
}

/* Levels that this machine lacks say so, and compute nothing. */
static void check_levels(int count, char** names) {
  int at = 0;
  const sightline_problem none = {0};
  for (int32_t level = 0; level < core.level_count(); level++) {
    const char* name = core.level_name(level);
    if (!core.level_supported(level)) {
      expect(core.forward(level, 1, &none, NULL, NULL, NULL) == SIGHTLINE_UNSUPPORTED_LEVEL, name, "refused");
      printf("cannot run here: %s\n", name);
      continue;
    }
    if (count) expect(at < count && !strcmp(names[at], name), name, "can run here, and was not expected to");
    at++;
    printf("level %s: %.1f GFLOP/s\n", name, core.peak_gflops(level, 0.01));
  }
  expect(!count || at == count, "library", "fewer levels can run than expected");
  expect(core.forward(99, 1, &none, NULL, NULL, NULL) == SIGHTLINE_UNKNOWN_LEVEL, "library", "level 99");
}

int main(int count, char** arguments) {
  if (count > 1 && !strcmp(arguments[1], "--no-fork")) forks = 0, count--, arguments++;
  if (count < 2 || !load_library(arguments[1], &core)) return 2;
  /* Widths that no vector divides, more than one block of queries, groups of heads; and few queries. */
  Definition blocks = {.batch = 2, .heads = 4, .kv_heads = 2, .queries = 70, .keys = 93};
  Definition plain = {.batch = 1, .heads = 2, .kv_heads = 1, .queries = 66, .keys = 130};
  Definition decode = {.batch = 2, .heads = 6, .kv_heads = 2, .queries = 1, .keys = 777};
  blocks.width = 40, blocks.value_width = 24, blocks.scale = 0.15625, blocks.softcap = 3;
  plain.width = plain.value_width = 64, plain.scale = 0.125;
  decode.width = 33, decode.value_width = 40, decode.scale = 0.125;
  draw(&blocks, ALL_TERMS), draw(&plain, RANGES), draw(&decode, NO_TERMS);
  define(&blocks), define(&plain), define(&decode);
  check_layout();
  check_levels(count - 2, arguments + 2);
  for (int32_t level = 0; level < core.level_count(); level++) {
    for (int t = 0; t < 2 && core.level_supported(level); t++) check_linear(level, t);
    for (int32_t dtype = SIGHTLINE_FLOAT32; dtype <= SIGHTLINE_FLOAT16 && core.level_supported(level);
         dtype++) {
      check_problem(&blocks, level, dtype, SIGHTLINE_BLOCKS);
      check_problem(&plain, level, dtype, SIGHTLINE_BLOCKS);
      check_problem(&decode, level, dtype, SIGHTLINE_DECODE);
    }
  }
  printf(wrong ? "something is wrong\n" : "all is well\n");
  return wrong;
}
