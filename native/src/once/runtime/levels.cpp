#include "once/runtime/levels.h"

#ifdef SIGHTLINE_X86_LEVELS
#include "once/runtime/processor.h"
#ifdef SIGHTLINE_AMX_LEVEL
#include "once/runtime/amx.h"
#endif
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
#ifdef SIGHTLINE_AMX_LEVEL
extern const Kernels kernels_amx_bf16;
#endif

namespace {

bool has_avx2() { return processor().avx2; }
bool has_avx512() { return processor().avx512; }
bool has_avx512_bf16() { return processor().avx512_bf16; }

// Intel's take four times as long for a dot product of pairs as for a multiply-add.
bool pairs_pay() { return !processor().intel; }

const Level levels[] = {
    {"generic", &kernels_generic, always, always},
    {"avx2", &kernels_avx2, has_avx2, always},
    {"avx512", &kernels_avx512, has_avx512, always},
    {"avx512_bf16", &kernels_avx512_bf16, has_avx512_bf16, pairs_pay},
#ifdef SIGHTLINE_AMX_LEVEL
    {"amx_bf16", &kernels_amx_bf16, may_use_amx, always},
#endif
};
}  // namespace

#else

namespace {
const Level levels[] = {{"generic", &kernels_generic, always, always}};
}  // namespace

#endif

int level_count() { return sizeof levels / sizeof levels[0]; }

const Level* level_at(int32_t level) {
  return level >= 0 && level < level_count() ? &levels[level] : nullptr;
}

}  // namespace sightline
