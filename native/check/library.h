/* The core, loaded as Python loads it: by its file's name. */
#ifndef SIGHTLINE_CHECK_LIBRARY_H
#define SIGHTLINE_CHECK_LIBRARY_H

#include <stdio.h>

#include "sightline.h"

#if defined(_WIN32)
#include <windows.h>
#else
#include <dlfcn.h>
#endif

typedef struct {
  int32_t (*abi)(void);
  int32_t (*level_count)(void);
  const char* (*level_name)(int32_t);
  int32_t (*level_supported)(int32_t);
  int32_t (*layout)(int32_t, int32_t, const char**, int64_t*, int64_t*);
  int32_t (*plan)(int32_t, int32_t, const sightline_problem*, int32_t, sightline_plan_info*);
  int32_t (*forward)(int32_t, int32_t, const sightline_problem*, void*, const int64_t*, double*);
  int32_t (*backward)(int32_t, int32_t, const sightline_problem*, const sightline_gradients*);
  int32_t (*readout)(int32_t, int32_t, const sightline_problem*, const sightline_problem*, const double*,
                     const sightline_readouts*);
  int64_t (*linear_floats)(int32_t, int64_t, int64_t);
  int32_t (*linear_pack)(int32_t, int32_t, int64_t, int64_t, const float*, const int64_t*, float*);
  int32_t (*linear)(int32_t, int32_t, int64_t, int64_t, int64_t, const float*, const int64_t*, const float*,
                    const float*, float*, int64_t);
  double (*peak_gflops)(int32_t, double);
} Library;

typedef void (*AnyFunction)(void);

static inline AnyFunction find_function(void* handle, const char* name, int* missing) {
#if defined(_WIN32)
  const AnyFunction found = (AnyFunction)GetProcAddress((HMODULE)handle, name);
#else
  AnyFunction found;
  *(void**)&found = dlsym(handle, name);
#endif
  if (!found) fprintf(stderr, "%s is missing\n", name), *missing = 1;
  return found;
}

/* 0 where it cannot be loaded, or lacks a function; says why. */
static inline int load_library(const char* path, Library* library) {
#if defined(_WIN32)
  void* handle = (void*)LoadLibraryA(path);
  if (!handle) fprintf(stderr, "%s: error %lu\n", path, GetLastError());
#else
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!handle) fprintf(stderr, "%s\n", dlerror());
#endif
  int missing = 0;
  if (!handle) return 0;
#define SL_FIND(name) *(AnyFunction*)&library->name = find_function(handle, "sightline_" #name, &missing)
  SL_FIND(abi), SL_FIND(level_count), SL_FIND(level_name), SL_FIND(level_supported), SL_FIND(layout);
  SL_FIND(plan), SL_FIND(forward), SL_FIND(backward), SL_FIND(readout), SL_FIND(peak_gflops);
  SL_FIND(linear_floats), SL_FIND(linear_pack), SL_FIND(linear);
#undef SL_FIND
  return !missing;
}

#endif
