// What an x86-64 processor can do, and its operating system lets it.
//
// Asked here and not by __builtin_cpu_supports: that answers from a runtime library, and not every compiler's
// has more than zeros there.
#pragma once

#include <cpuid.h>

#include <cstdint>

namespace sightline {

struct Processor {
  bool avx2 = false, avx512 = false, avx512_bf16 = false;  // x86-64-v3, x86-64-v4, and bfloat16 products
  bool amx_bf16 = false;
  bool intel = false;  // by whom it was made

  Processor() {
    uint32_t a, b, c, d;
    if (__get_cpuid(0, &a, &b, &c, &d)) intel = b == kGenu && d == kIneI && c == kNtel;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    const bool v3_of_1 = has(c, {kFma, kMovbe, kOsxsave, kAvx, kF16c});
    if (!v3_of_1 || !__get_cpuid(0x80000001, &a, &b, &c, &d) || !has(c, {kLzcnt})) return;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return;
    const uint32_t most_of_7 = a, saved = saved_registers();
    avx2 = has(b, {kBmi, kAvx2, kBmi2}) && has(saved, {kSse, kYmm});
    avx512 = avx2 && has(b, {kAvx512f, kAvx512dq, kAvx512cd, kAvx512bw, kAvx512vl}) && saves_avx512(saved);
    const bool tiles = has(d, {kAmxBf16, kAmxTile}) && has(saved, {kTileShapes, kTiles});
    if (!avx512 || most_of_7 < 1 || !__get_cpuid_count(7, 1, &a, &b, &c, &d)) return;
    avx512_bf16 = has(a, {kAvx512Bf16});
    amx_bf16 = avx512_bf16 && tiles;
  }

 private:
  enum Of1 { kFma = 12, kMovbe = 22, kOsxsave = 27, kAvx = 28, kF16c = 29 };
  enum Of80000001 { kLzcnt = 5 };
  enum Of7 {
    kBmi = 3,
    kAvx2 = 5,
    kBmi2 = 8,
    kAvx512f = 16,
    kAvx512dq = 17,
    kAvx512cd = 28,
    kAvx512bw = 30,
    kAvx512vl = 31
  };
  enum DOf7 { kAmxBf16 = 22, kAmxTile = 24 };
  enum Of71 { kAvx512Bf16 = 5 };
  enum OfSaved { kSse = 1, kYmm = 2, kMasks = 5, kUpperZmm = 6, kMoreZmm = 7, kTileShapes = 17, kTiles = 18 };
  // "GenuineIntel", in the order of its registers.
  static constexpr uint32_t kGenu = 0x756e6547, kIneI = 0x49656e69, kNtel = 0x6c65746e;

  template <int n>
  static bool has(uint32_t word, const int (&bits)[n]) {
    for (int bit : bits) {
      if (!(word >> bit & 1)) return false;
    }
    return true;
  }

  // XCR0: which registers the system keeps when it changes from one thread to another.
  static uint32_t saved_registers() {
    uint32_t low, high;
    asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
  }

  static bool saves_avx512(uint32_t saved) {
#if defined(__APPLE__)
    (void)saved;
    return true;  // from a thread's first use of them on, and not said before
#else
    return has(saved, {kMasks, kUpperZmm, kMoreZmm});
#endif
  }
};

inline const Processor& processor() {
  static const Processor found;
  return found;
}

}  // namespace sightline
