// What a dense mask shows of each tile of 64 queries by 16 keys, one byte a tile, found once per call: empty
// tiles are skipped and full ones need no test, as if the mask were ranges.
//
// Bit q of a byte: some query of the tile's q-th 16 sees some of its keys. Bit 4 + q: all of them see all.
#pragma once

#include <cstdint>

namespace sightline {

constexpr int kMapQueries = 64, kMapKeys = 16, kMapQuarter = 16;
constexpr uint8_t kMapSome = 0x0f, kMapAll = 0xf0;

}  // namespace sightline
