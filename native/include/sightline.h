/* The C interface of Sightline's native core.
 *
 * Plain C, raw pointers and strides: no PyTorch header is needed to build it, so one build serves every
 * PyTorch version. The core neither prints nor aborts; every entry point returns a status.
 *
 * Letters: B batch, H query heads, G key/value heads (G divides H), N queries, M keys, D query/key width,
 * E value width. Strides count elements, not bytes; a stride of 0 broadcasts that axis. The last axis of
 * query, key, value and context is contiguous.
 */
#ifndef SIGHTLINE_H
#define SIGHTLINE_H

#include <stdint.h>

#if defined(_WIN32)
#define SIGHTLINE_API __declspec(dllexport)
#else
#define SIGHTLINE_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Bumped whenever a struct or a signature changes; the Python side refuses a library of another number. */
#define SIGHTLINE_ABI 12

typedef enum {
  SIGHTLINE_OK = 0,
  SIGHTLINE_OUT_OF_MEMORY = 1,
  SIGHTLINE_UNKNOWN_LEVEL = 2,
  SIGHTLINE_UNSUPPORTED_LEVEL = 3,
  SIGHTLINE_INVALID_ARGUMENT = 4,
  SIGHTLINE_FAILED = 5
} sightline_status;

/* What query, key, value, context and their gradients are made of; all of one problem agree. Everything is
 * summed in float32, and readouts and the gradients of sinks, slopes and tables are float32 throughout. An
 * lse is float64: the float32 next to one of 200 is up to 8e-6 away, and so would be every weight made with
 * it. */
typedef enum { SIGHTLINE_FLOAT32 = 0, SIGHTLINE_BFLOAT16 = 1, SIGHTLINE_FLOAT16 = 2 } sightline_dtype;

/* One attention problem, already checked and lowered by the caller.
 *
 *   scores  = query . key
 *   scaled  = scale * scores
 *   capped  = softcap > 0 ? softcap * tanh(scaled / softcap) : scaled
 *   biased  = capped + bias[b,h,i,j] - slopes[b,h] * |i + offset[b] - j|
 *                    + table[h, clip(j - i - offset[b], -radius, radius) + radius]
 *   masked  = -inf unless j lies in one of the row's ranges and visible[b,h,i,j] != 0
 *   weights = softmax(masked, with exp(sinks[h]) added to the denominator)
 *   context = weights . value
 *
 * Sizes, tensors, numbers, and the core's own notes. A tensor is a pointer and the strides of the axes named
 * beside it; a pointer that is null leaves its term out.
 */
typedef struct {
  int64_t batch, heads, kv_heads, queries, keys, width, value_width;
  int64_t range_count; /* key ranges per row */
  int64_t radius;      /* of the table */

  const void* query;
  int64_t query_stride[3]; /* b, h, i */
  const void* key;
  int64_t key_stride[3];   /* b, g, j */
  const void* value;       /* may be null: only lse and readouts can be asked for then */
  int64_t value_stride[3]; /* b, g, j */

  /* Per row, range_count half-open key ranges [lo, hi) as int32 pairs, contiguous, sorted, disjoint,
   * within [0, keys]. Empty ones have lo >= hi and may stand anywhere. Null: every key may be seen. */
  const int32_t* ranges;
  int64_t ranges_stride[3];  /* b, h, i; in int32 elements */
  const uint8_t* visible;    /* one byte per entry, 0 = hidden */
  int64_t visible_stride[4]; /* b, h, i, j */

  const void* bias;         /* natural units; -inf hides */
  int64_t bias_stride[4];   /* b, h, i, j */
  const float* slopes;      /* ALiBi */
  int64_t slopes_stride[2]; /* b, h */
  const float* table;       /* relative positions, 2 * radius + 1 contiguous entries per head */
  int64_t table_stride[1];  /* h */
  const int64_t* offset;    /* position of query 0, for slopes and table; null: 0 */
  int64_t offset_stride[1]; /* b */
  const float* sinks;
  int64_t sinks_stride[1]; /* h */

  float scale;
  float softcap;      /* 0: none */
  int32_t dtype;      /* a sightline_dtype */
  int32_t bias_dtype; /* a sightline_dtype */

  /* Weight (b,h,i,j) is kept, times keep_scale, where a hash of (seed,b,h,i,j) is below keep_threshold, and
   * is 0 elsewhere. The hash has 24 bits, so a threshold of 2^24 keeps all and one of 0 none. keep_scale 0:
   * no dropout, whatever the threshold. Readouts know none. */
  uint64_t seed;
  uint32_t keep_threshold;
  float keep_scale;

  /* The core's own notes on `visible`, made in each call; leave them null and 0. */
  const uint8_t* visible_map;
  int64_t visible_map_stride[3]; /* b, h, 64 queries */
} sightline_problem;

/* What the backward pass is given besides the problem, and what it fills. Strides as in the problem; the
 * gradients of query, key and value have the problem's dtype and a contiguous last axis. A null output is
 * not computed. Outputs need not be cleared. */
typedef struct {
  const void* context; /* as sightline_forward gave it */
  int64_t context_stride[3];
  const double* lse;        /* contiguous [B,H,N] */
  const void* grad_context; /* [B,H,N,E], contiguous last axis */
  int64_t grad_context_stride[3];
  const float* grad_lse;     /* contiguous [B,H,N]; null: 0 */
  const float* grad_entropy; /* the same, of each row's -sum w ln w; null: 0 */

  void* query;
  int64_t query_stride[3];
  void* key;
  int64_t key_stride[3];
  void* value;
  int64_t value_stride[3];
  void* bias; /* in bias_dtype; strides as the problem's where it does not broadcast; 0 where it is summed */
  int64_t bias_stride[4];
  float* slopes; /* with slopes_stride of the problem */
  float* table;  /* with table_stride of the problem */
  float* sinks;  /* contiguous [H] */
} sightline_gradients;

/* Tangents of query, key and value, in the problem's dtype with a contiguous last axis (null: stands still),
 * and what the forward pass and its tangent write. Everything else of the problem stands still, and it has
 * no dropout. */
typedef struct {
  const void* query;
  int64_t query_stride[3];
  const void* key;
  int64_t key_stride[3];
  const void* value;
  int64_t value_stride[3];

  void* context; /* [B,H,N,E], contiguous last axis */
  int64_t context_stride[3];
  void* tangent_context; /* the same */
  int64_t tangent_context_stride[3];
  double* lse;        /* contiguous [B,H,N] */
  float* tangent_lse; /* the same; 0 where the lse is -inf */
} sightline_tangents;

/* Functions of a visible pair's weight w and masked logit s (natural units) that a readout pass sums up. */
typedef enum {
  SIGHTLINE_WEIGHT = 0,
  SIGHTLINE_WEIGHT_SQUARED = 1,
  SIGHTLINE_SCORE = 2,
  SIGHTLINE_WEIGHT_TIMES_SCORE = 3,
  SIGHTLINE_WEIGHT_TIMES_DISTANCE = 4, /* w |i + position[b] - j| */
  SIGHTLINE_WEIGHT_ABOVE = 5           /* 1 where w > threshold, else 0 */
} sightline_function;

/* What a readout pass writes, and what it needs to. All are contiguous; null pointers are not computed. */
typedef struct {
  float* entropy;        /* [B,H,N] nats: -sum w ln w */
  float* received;       /* [B,H,M] sum over queries of w */
  float* max_weight;     /* [B,H,N] */
  int64_t* max_index;    /* [B,H,N], -1 where nothing is visible; ties: the lowest key */
  float* max_score;      /* [B,H,N] largest masked logit, natural units; -inf where nothing is visible */
  float* topk_weights;   /* [B,H,N,k] descending; 0 where fewer than k keys are visible */
  int64_t* topk_indices; /* [B,H,N,k]; -1 there; ties: the lower key first */
  float* distance;       /* [B,H,N] sum over keys of w |i + position[b] - j| */
  float* cell_sum;       /* [B,H,N,cell_count] sum of w */
  float* cell_max;       /* [B,H,N,cell_count] largest w; -1 where nothing is visible */
  float* cell_seen;      /* [B,H,N,cell_count] visible keys */
  float* row_sums;       /* [B,H,N] sum over keys of the function */
  float* key_sums;       /* [B,H,M] sum over queries of the function; not together with received */

  int64_t k;               /* 1 <= k <= sightline_max_topk() */
  const int64_t* position; /* null: 0 */
  int64_t position_stride; /* b */
  /* Key j of batch entry b belongs to cell cells[b,j], 0 <= cells < cell_count. */
  const int32_t* cells; /* contiguous along j */
  int64_t cell_stride;  /* b */
  int64_t cell_count;
  int32_t function; /* a sightline_function */
  float threshold;
} sightline_readouts;

/* How sightline_forward runs a problem. */
typedef enum {
  SIGHTLINE_BLOCKS = 0, /* blocks of 64 queries of one head */
  SIGHTLINE_DECODE =
      1 /* few queries, many keys: each key and value is read once for all heads of its group */
} sightline_path;

/* What it multiplies; sums are float32. */
typedef enum {
  SIGHTLINE_FLOAT32_WORDS = 0,
  SIGHTLINE_BFLOAT16_PAIRS = 1, /* dot products of two */
  SIGHTLINE_BFLOAT16_TILES = 2  /* AMX: 16 rows by 16 columns of dot products of 32 */
} sightline_products;

typedef struct {
  int32_t path;     /* a sightline_path */
  int32_t workers;  /* threads that take part, at most the number given */
  int64_t parts;    /* pieces of work that they take one by one */
  int32_t products; /* a sightline_products */
} sightline_plan_info;

/* Levels are numbered from 0 (generic, present everywhere) upwards; a build for another architecture has
 * fewer. A name is one of "generic", "avx2", "avx512", "avx512_bf16", "amx_bf16". */
SIGHTLINE_API int32_t sightline_abi(void);
SIGHTLINE_API int32_t sightline_level_count(void);
SIGHTLINE_API const char* sightline_level_name(int32_t level);  /* null: no such level */
SIGHTLINE_API int32_t sightline_level_supported(int32_t level); /* 1: this machine can run it */
SIGHTLINE_API int32_t sightline_best_level(void);               /* the fastest that this machine can run */
SIGHTLINE_API int32_t sightline_max_topk(void);

/* How the structs lie in memory, for callers that cannot include this header: name, offset and size in bytes
 * of one field, counted from 0 in the order above, arrays as a whole. Field -1 is the struct itself: its
 * name, 0 and its size. SIGHTLINE_INVALID_ARGUMENT past the last field, and for no such struct. */
typedef enum {
  SIGHTLINE_LAYOUT_PROBLEM = 0,
  SIGHTLINE_LAYOUT_GRADIENTS = 1,
  SIGHTLINE_LAYOUT_READOUTS = 2,
  SIGHTLINE_LAYOUT_PLAN = 3,
  SIGHTLINE_LAYOUT_TANGENTS = 4
} sightline_layout_struct;

SIGHTLINE_API int32_t sightline_layout(int32_t struct_id, int32_t field, const char** name, int64_t* offset,
                                       int64_t* size);

/* Stages of a call, for profilers, in the order of the data. The core folds `scaled` into the products that
 * make scores, so it is never entered; a stage that a problem lacks is not either.
 *
 *   scores   packing query and key (in the backward pass, value too), query . key, scaling
 *   capped   the cap
 *   biased   bias, slopes and table
 *   masked   reading ranges and mask, hiding
 *   weights  exponentials, their sums and maxima, sinks, dropout; all that readouts make of weights
 *   context  packing value, weights . value, merging and writing it
 *
 * SIGHTLINE_STAGE_GRADIENT is added in the backward pass for the way back through a stage, from the gradient
 * of what it gives to that of what it takes:
 *
 *   16 + context  grad_weights and grad_value      16 + biased  gradients of bias, slopes and table
 *   16 + weights  delta, grad_masked, sinks        16 + capped  times the slope of the cap
 *   16 + scores   grad_query and grad_key
 *
 * The stages before, which it computes once more, go by their own names; but weights are made in one pass
 * with grad_masked, and count there, except where grad_value alone is asked for. */
typedef enum {
  SIGHTLINE_STAGE_SCORES = 0,
  SIGHTLINE_STAGE_SCALED = 1,
  SIGHTLINE_STAGE_CAPPED = 2,
  SIGHTLINE_STAGE_BIASED = 3,
  SIGHTLINE_STAGE_MASKED = 4,
  SIGHTLINE_STAGE_WEIGHTS = 5,
  SIGHTLINE_STAGE_CONTEXT = 6,
  SIGHTLINE_STAGE_GRADIENT = 16
} sightline_stage;

typedef void (*sightline_zone)(int32_t stage);

/* From now on, calls that the calling thread makes call enter(stage) and leave(stage) on it around each stage
 * that it works on itself, many times each, one after another and never one inside another. Other threads
 * that take part are not heard of: with `threads` 1 all work is, else the calling thread's share. Both must
 * be null (nobody listens any more) or neither; they must not throw. */
SIGHTLINE_API int32_t sightline_watch(sightline_zone enter, sightline_zone leave);

/* context: [B,H,N,E] with strides b, h, i (null: lse only); lse: contiguous [B,H,N], natural logarithm,
 * sinks included, -inf for a row with nothing to look at (null: not wanted). A row with nothing to look at
 * has context 0. The result does not depend on the number of threads. */
SIGHTLINE_API int32_t sightline_forward(int32_t level, int32_t threads, const sightline_problem* problem,
                                        void* context, const int64_t context_stride[3], double* lse);

/* The same, and what each key received, the sum of its weights over the queries, is added to what stands in
 * received [B,heads,M], strides b and head, contiguous along the keys. `received_heads` is H, or G: then it
 * is summed over the query heads of each key/value head too. Knows no dropout. Where few queries decode, it
 * is made of the logits of the one pass; elsewhere a second pass reads it off. */
SIGHTLINE_API int32_t sightline_forward_received(int32_t level, int32_t threads,
                                                 const sightline_problem* problem, void* context,
                                                 const int64_t context_stride[3], double* lse,
                                                 float* received, const int64_t received_stride[2],
                                                 int32_t received_heads);

/* What sightline_forward does with the same arguments; `context` other than 0: the context is wanted. Reads
 * none of the arrays. A problem without rows has no parts. */
SIGHTLINE_API int32_t sightline_plan(int32_t level, int32_t threads, const sightline_problem* problem,
                                     int32_t context, sightline_plan_info* plan);

/* Gradients by recomputation, weights = exp(masked - lse):
 *
 *   grad_weights = grad_context . value;   grad_value = weights^T . grad_context
 *   grad_masked  = weights * (grad_weights - delta),  delta = sum_e context * grad_context - grad_lse
 *   grad_query   = scale * grad_scores . key;   grad_key = scale * grad_scores^T . query
 *
 * grad_entropy adds -grad_entropy * (1 + ln weights) to grad_weights. What that adds to delta, the sum of
 * weights times it, is left to the caller, who knows the entropy: grad_entropy * (entropy - sum of weights),
 * to be taken from grad_lse.
 *
 * Same threads, same result. */
SIGHTLINE_API int32_t sightline_backward(int32_t level, int32_t threads, const sightline_problem* problem,
                                         const sightline_gradients* gradients);

/* The forward pass and, in the same sweep over the keys, its tangent:
 *
 *   d masked  = slope of the cap * scale * (d query . key + query . d key)
 *   d lse     = sum weights * d masked
 *   d context = sum weights * (d masked - d lse) * value + weights * d value
 *
 * All products are of float32. The result does not depend on the number of threads. */
SIGHTLINE_API int32_t sightline_tangent(int32_t level, int32_t threads, const sightline_problem* problem,
                                        const sightline_tangents* tangents);

/* lse: contiguous [B,H,N], as sightline_forward gives it for all keys of the same queries: those of `whole`,
 * where the problem has only some of them; null where it has all. Same threads, same result. */
SIGHTLINE_API int32_t sightline_readout(int32_t level, int32_t threads, const sightline_problem* problem,
                                        const sightline_problem* whole, const double* lse,
                                        const sightline_readouts* out);

/* A linear layer's product of float32, out = a . weight^T + bias, with a weight [columns,depth] that was
 * packed before: any strides, into so many floats. What one level packed, no other can read. */
SIGHTLINE_API int64_t sightline_linear_floats(int32_t level, int64_t columns, int64_t depth);
SIGHTLINE_API int32_t sightline_linear_pack(int32_t level, int32_t threads, int64_t columns, int64_t depth,
                                            const float* weight, const int64_t weight_stride[2],
                                            float* packed);

/* a [rows,depth], any strides; bias [columns], or null; out [rows,columns], contiguous along
 * columns. A row's result depends neither on the other rows nor on the number of threads. */
SIGHTLINE_API int32_t sightline_linear(int32_t level, int32_t threads, int64_t rows, int64_t columns,
                                       int64_t depth, const float* a, const int64_t a_stride[2],
                                       const float* packed, const float* bias, float* out,
                                       int64_t out_stride);

/* GFLOP/s of one core doing nothing but fused multiply-adds (multiply, then add, where the level has no
 * FMA): the peak that benchmarks quote shares of. Takes about `seconds`. 0 for a level that cannot run. */
SIGHTLINE_API double sightline_peak_gflops(int32_t level, double seconds);

/* The same of bfloat16 dot products, or AMX's products (each multiplication and each addition counts); 0 for
 * a level that has none. */
SIGHTLINE_API double sightline_peak_dot_gflops(int32_t level, double seconds);

#ifdef __cplusplus
}
#endif
#endif /* SIGHTLINE_H */
