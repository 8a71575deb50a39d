// The multiply-add peaks of one core: twelve independent chains that never leave their registers.
#pragma once

#include "per_level/products/amx.h"

namespace sightline {
namespace {

constexpr int kPeakChains = 12;
constexpr int kPeakRounds = 100000;

#if defined(__AVX512F__)
#define SL_PEAK_STEP "vfmadd231ps %%zmm14, %%zmm15, %%zmm\\n\n"
#elif defined(__AVX2__)
#define SL_PEAK_STEP "vfmadd231ps %%ymm14, %%ymm15, %%ymm\\n\n"
#endif

// The values are whatever the registers hold: zeros here, so that no operand is subnormal.
double peak_burst() {
#ifdef SL_PEAK_STEP
  asm volatile("vzeroall" ::
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                     "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  for (int round = 0; round < kPeakRounds; round++) {
    asm volatile(".irp n,0,1,2,3,4,5,6,7,8,9,10,11\n" SL_PEAK_STEP ".endr" ::
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11");
  }
#else
  Vec chains[kPeakChains] = {};
  Vec factor = splat(0.5f), term = splat(1.0f);
  for (int round = 0; round < kPeakRounds; round++) {
    asm volatile("" : "+m"(factor), "+m"(term));  // unknown again: nothing can be folded across rounds
    const Vec f = factor, t = term;
    SL_UNROLL for (int c = 0; c < kPeakChains; c++) chains[c] = fma(chains[c], f, t);
  }
  for (int c = 0; c < kPeakChains; c++) asm volatile("" ::"m"(chains[c]));
#endif
  return 2.0 * kLanes * kPeakChains * kPeakRounds;
}

#if defined(__AMX_BF16__)
// The same of AMX's products of bfloat16: four chains of 16 x 16 x 32 multiply-adds.
double peak_dot_burst() {
  const AmxProducts::Session session;
  use_shape(kLanes, kLanes);
  _tile_zero(4);
  _tile_zero(6);
  for (int round = 0; round < kPeakRounds; round++) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 6);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 6);
  }
  return 2.0 * kPeakRounds * 4 * 16 * 16 * 32;
}
#elif defined(__AVX512BF16__)
// The same of bfloat16 dot products, two multiply-adds a lane.
double peak_dot_burst() {
  asm volatile("vzeroall" ::
                   : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                     "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  for (int round = 0; round < kPeakRounds; round++) {
    asm volatile(
        ".irp n,0,1,2,3,4,5,6,7,8,9,10,11\n"
        "vdpbf16ps %%zmm14, %%zmm15, %%zmm\\n\n"
        ".endr" ::
            : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
              "xmm11");
  }
  return 4.0 * kLanes * kPeakChains * kPeakRounds;
}
#else
constexpr double (*peak_dot_burst)() = nullptr;
#endif

}  // namespace
}  // namespace sightline
