/* Numbers to compute with: the same everywhere, and exact in every dtype. */
#ifndef SIGHTLINE_CHECK_NUMBERS_H
#define SIGHTLINE_CHECK_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sightline.h"

/* Eighths in [-2, 2]: bfloat16 and float16 hold them as they are. */
static inline double next_number(uint32_t* state) {
  *state = *state * 1664525u + 1013904223u;
  return ((int)(*state >> 16) % 33 - 16) / 8.0;
}

static inline size_t element_size(int32_t dtype) { return dtype == SIGHTLINE_FLOAT32 ? 4 : 2; }

/* Writes a number that the dtype holds exactly. */
static inline void put(void* array, int64_t at, int32_t dtype, double value) {
  const float single = (float)value;
  uint32_t bits;
  memcpy(&bits, &single, sizeof bits);
  if (dtype == SIGHTLINE_FLOAT32) {
    ((float*)array)[at] = single;
  } else if (dtype == SIGHTLINE_BFLOAT16) {
    ((uint16_t*)array)[at] = (uint16_t)(bits >> 16);
  } else {
    const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
    ((uint16_t*)array)[at] = (uint16_t)(sign | (size ? (size >> 13) - (112 << 10) : 0));
  }
}

static inline double get(const void* array, int64_t at, int32_t dtype) {
  if (dtype == SIGHTLINE_FLOAT32) return ((const float*)array)[at];
  const uint32_t bits = ((const uint16_t*)array)[at];
  if (dtype == SIGHTLINE_BFLOAT16) {
    const uint32_t wide = bits << 16;
    float single;
    memcpy(&single, &wide, sizeof single);
    return single;
  }
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                      : exponent == 0 ? ldexp(fraction, -24)
                                      : ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

/* Memory, or the end: a check has nothing to do without. */
static inline void* room(size_t count, size_t size) {
  void* memory = calloc(count ? count : 1, size);
  if (!memory) abort();
  return memory;
}

#endif
