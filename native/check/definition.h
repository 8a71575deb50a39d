/* Attention, its gradients and readouts in double, as native/include/sightline.h defines them: the judge. */
#ifndef SIGHTLINE_CHECK_DEFINITION_H
#define SIGHTLINE_CHECK_DEFINITION_H

#include "numbers.h"

/* A problem and everything that it is given and gives: doubles, contiguous in the order of the header. */
typedef struct {
  int64_t batch, heads, kv_heads, queries, keys, width, value_width;
  double scale, softcap;
  double *query, *key, *value, *bias, *slopes, *sinks; /* the last three may be null */
  int32_t* ranges;                                     /* a pair per query, for all heads; may be null */
  double *grad_context, *grad_lse;

  double *context, *lse, *weights;
  double *grad_query, *grad_key, *grad_value, *grad_bias, *grad_slopes, *grad_sinks;
  double *entropy, *received, *distance;
} Definition;

typedef struct {
  int64_t b, h, i;
  const double *query, *key, *value, *bias; /* of this row, or its first key */
} Row;

static inline Row row_at(const Definition* d, int64_t b, int64_t h, int64_t i) {
  const int64_t g = b * d->kv_heads + h / (d->heads / d->kv_heads), row = (b * d->heads + h) * d->queries + i;
  const Row found = {b,
                     h,
                     i,
                     d->query + row * d->width,
                     d->key + g * d->keys * d->width,
                     d->value + g * d->keys * d->value_width,
                     d->bias ? d->bias + row * d->keys : NULL};
  return found;
}

static inline double dot(const double* a, const double* b, int64_t count) {
  double sum = 0;
  for (int64_t e = 0; e < count; e++) sum += a[e] * b[e];
  return sum;
}

static inline double capped(const Definition* d, const Row* row, int64_t j) {
  const double scaled = d->scale * dot(row->query, row->key + j * d->width, d->width);
  return d->softcap > 0 ? d->softcap * tanh(scaled / d->softcap) : scaled;
}

static inline double masked(const Definition* d, const Row* row, int64_t j) {
  if (d->ranges && (j < d->ranges[2 * row->i] || j >= d->ranges[2 * row->i + 1])) return -INFINITY;
  double logit = capped(d, row, j);
  if (row->bias) logit += row->bias[j];
  if (d->slopes) logit -= d->slopes[row->h] * fabs((double)(row->i - j));
  return logit;
}

static inline void define_row(Definition* d, const Row* row) {
  const int64_t at = (row->b * d->heads + row->h) * d->queries + row->i;
  double* weights = d->weights + at * d->keys;
  double largest = d->sinks ? d->sinks[row->h] : -INFINITY, sum = 0;
  for (int64_t j = 0; j < d->keys; j++) {
    weights[j] = masked(d, row, j);
    largest = fmax(largest, weights[j]);
  }
  if (d->sinks) sum = exp(d->sinks[row->h] - largest);
  for (int64_t j = 0; j < d->keys; j++) sum += isinf(weights[j]) ? 0 : exp(weights[j] - largest);
  d->lse[at] = sum > 0 ? largest + log(sum) : -INFINITY;
  for (int64_t j = 0; j < d->keys; j++) {
    const double weight = weights[j] = isinf(weights[j]) ? 0 : exp(weights[j] - d->lse[at]);
    for (int64_t e = 0; e < d->value_width; e++) {
      d->context[at * d->value_width + e] += weight * row->value[j * d->value_width + e];
    }
    d->entropy[at] -= weight > 0 ? weight * log(weight) : 0;
    d->distance[at] += weight * fabs((double)(row->i - j));
    d->received[(row->b * d->heads + row->h) * d->keys + j] += weight;
  }
}

static inline void define_gradients_of_row(Definition* d, const Row* row) {
  const int64_t at = (row->b * d->heads + row->h) * d->queries + row->i;
  const double *weights = d->weights + at * d->keys, *grad = d->grad_context + at * d->value_width;
  double *grad_key = d->grad_key + (row->key - d->key), *grad_value = d->grad_value + (row->value - d->value);
  const double delta = dot(d->context + at * d->value_width, grad, d->value_width) - d->grad_lse[at];
  for (int64_t j = 0; j < d->keys; j++) {
    if (weights[j] == 0) continue;
    const double grad_masked =
        weights[j] * (dot(grad, row->value + j * d->value_width, d->value_width) - delta);
    for (int64_t e = 0; e < d->value_width; e++) grad_value[j * d->value_width + e] += weights[j] * grad[e];
    if (d->bias) d->grad_bias[at * d->keys + j] = grad_masked;
    if (d->slopes) d->grad_slopes[row->h] -= grad_masked * fabs((double)(row->i - j));
    const double over = d->softcap > 0 ? capped(d, row, j) / d->softcap : 0;
    const double grad_scores = grad_masked * (1 - over * over) * d->scale;
    for (int64_t e = 0; e < d->width; e++) {
      d->grad_query[at * d->width + e] += grad_scores * row->key[j * d->width + e];
      grad_key[j * d->width + e] += grad_scores * row->query[e];
    }
  }
  if (d->sinks) d->grad_sinks[row->h] -= exp(d->sinks[row->h] - d->lse[at]) * delta;
}

static inline double* numbers(int64_t count, uint32_t* state, double factor) {
  double* made = (double*)room((size_t)count, sizeof(double));
  for (int64_t at = 0; at < count; at++) made[at] = factor * next_number(state);
  return made;
}

typedef enum { NO_TERMS, RANGES, ALL_TERMS } Terms;

/* Draws what is given. One of the ranges is empty. */
static inline void draw(Definition* d, Terms terms) {
  uint32_t state = 7;
  const int64_t rows = d->batch * d->heads * d->queries, keys = d->batch * d->kv_heads * d->keys;
  d->query = numbers(rows * d->width, &state, 1);
  d->key = numbers(keys * d->width, &state, 1);
  d->value = numbers(keys * d->value_width, &state, 1);
  d->grad_context = numbers(rows * d->value_width, &state, 1);
  d->grad_lse = numbers(rows, &state, 0.5);
  if (terms == ALL_TERMS) {
    d->bias = numbers(rows * d->keys, &state, 0.75);
    d->slopes = numbers(d->heads, &state, 0.03125);
    d->sinks = numbers(d->heads, &state, 1);
  }
  if (terms == NO_TERMS) return;
  d->ranges = (int32_t*)room((size_t)(2 * d->queries), sizeof(int32_t));
  for (int64_t i = 0; i < d->queries; i++) {
    d->ranges[2 * i] = (int32_t)(i / 3);
    d->ranges[2 * i + 1] = (int32_t)(i == 5 ? 0 : i + 20 < d->keys ? i + 20 : d->keys);
  }
}

/* Computes all that is asked of the core. */
static inline void define(Definition* d) {
  const int64_t rows = d->batch * d->heads * d->queries, keys = d->batch * d->kv_heads * d->keys;
  uint32_t none = 0;
  d->context = numbers(rows * d->value_width, &none, 0), d->lse = numbers(rows, &none, 0);
  d->weights = numbers(rows * d->keys, &none, 0);
  d->grad_query = numbers(rows * d->width, &none, 0), d->grad_key = numbers(keys * d->width, &none, 0);
  d->grad_value = numbers(keys * d->value_width, &none, 0);
  d->grad_bias = numbers(rows * d->keys, &none, 0);
  d->grad_slopes = numbers(d->heads, &none, 0), d->grad_sinks = numbers(d->heads, &none, 0);
  d->entropy = numbers(rows, &none, 0), d->distance = numbers(rows, &none, 0);
  d->received = numbers(d->batch * d->heads * d->keys, &none, 0);
  for (int64_t b = 0; b < d->batch; b++) {
    for (int64_t h = 0; h < d->heads; h++) {
      for (int64_t i = 0; i < d->queries; i++) {
        const Row row = row_at(d, b, h, i);
        define_row(d, &row);
        define_gradients_of_row(d, &row);
      }
    }
  }
}

#endif
