// Numbers that both sides count with. In an unnamed namespace, as this is compiled for different instruction
// sets: no copy made for one can be linked into the path of another.
#pragma once

#include <cstdint>

#include "sightline.h"

namespace sightline {
namespace {

constexpr int kMaxTopk = 64;

// Rows of keys or values this many bytes apart (heads side by side in memory) fall into few cache sets and
// into a page each; a head that several blocks read is packed together first.
constexpr int64_t kFarStride = 2048;

// Rows that kernels read as whole vectors are padded to this width, with zeros.
constexpr int64_t padded_width(int64_t width) { return (width + 15) / 16 * 16; }

constexpr int64_t element_bytes(int32_t dtype) { return dtype == SIGHTLINE_FLOAT32 ? 4 : 2; }

}  // namespace
}  // namespace sightline
