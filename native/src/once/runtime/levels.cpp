#include "once/runtime/levels.h"

namespace sightline {

extern const Kernels kernels_generic;

namespace {
bool always() { return true; }
}  // namespace

#ifdef SIGHTLINE_X86_LEVELS

extern const Kernels kernels_avx2;
extern const Kernels kernels_avx512;
extern const Kernels kernels_avx512_bf16;

namespace {

// __builtin_cpu_supports asks the operating system too: a level whose registers it does not save is absent.
bool has_avx2() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi") &&
         __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl");
}
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

const Level levels[] = {{"generic", &kernels_generic, always},
                        {"avx2", &kernels_avx2, has_avx2},
                        {"avx512", &kernels_avx512, has_avx512},
                        {"avx512_bf16", &kernels_avx512_bf16, has_avx512_bf16}};
}  // namespace

#else

namespace {
const Level levels[] = {{"generic", &kernels_generic, always}};
}  // namespace

#endif

int level_count() { return sizeof levels / sizeof levels[0]; }

const Level* level_at(int32_t level) {
  return level >= 0 && level < level_count() ? &levels[level] : nullptr;
}

}  // namespace sightline
