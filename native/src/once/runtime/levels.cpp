#include "once/runtime/levels.h"

#ifdef SIGHTLINE_X86_LEVELS
#include "once/runtime/processor.h"
#endif

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

bool has_avx2() { return processor().avx2; }
bool has_avx512() { return processor().avx512; }
bool has_avx512_bf16() { return processor().avx512_bf16; }

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
