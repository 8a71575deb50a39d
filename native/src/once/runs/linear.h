// Runs a linear layer's product and packs its weight: threads take rectangles of the result, or columns.
#pragma once

#include "once/memory/worker_memory.h"
#include "once/runtime/call.h"
#include "once/runtime/threads.h"
#include "once/schedules/blocks.h"

namespace sightline {

// Below this many numbers to be packed by each (40 us), another thread saves too little.
constexpr double kNumbersPerThread = 1e5;

// Columns first, as weights are more than rows; by whole panels and tiles: kPanel is a multiple of the lanes
// that a panel has at any level, so that only the last part ends within one.
struct LinearShares {
  static constexpr int64_t kPanel = 48, kRows = 48;
  int64_t across, down;  // parts of columns, of rows

  LinearShares(const Linear& p, int64_t workers)
      : across(most(workers, p.columns / kPanel)),
        down(most((workers + across - 1) / across, p.rows / kRows)) {}

  LinearPart part(const Linear& p, int64_t item) const {
    const int64_t c = item % across, r = item / across;
    const int64_t column = cut(p.columns, c, across, kPanel), row = cut(p.rows, r, down, kRows);
    return {row, cut(p.rows, r + 1, down, kRows) - row, column,
            cut(p.columns, c + 1, across, kPanel) - column};
  }

 private:
  static int64_t most(int64_t wanted, int64_t there) {
    const int64_t parts = wanted < there ? wanted : there;
    return parts > 1 ? parts : 1;
  }
  static int64_t cut(int64_t size, int64_t at, int64_t parts, int64_t unit) {
    return at == parts ? size : size / unit * at / parts * unit;
  }
};

// Packs a weight: threads take columns.
inline sightline_status pack_linear(const Call& call, const LinearWeight& weight, float* to) {
  constexpr int64_t kPerPart = 4 * LinearShares::kPanel;
  const int64_t parts = (weight.columns + kPerPart - 1) / kPerPart;
  const double useful = (double)weight.columns * weight.depth / kNumbersPerThread + 1;
  const int workers = useful < call.threads ? (int)useful : call.threads;
  parallel_for(workers, parts, [&](int, int64_t part) {
    const int64_t first = part * kPerPart, left = weight.columns - first;
    call.kernels.linear_pack(weight, first, left < kPerPart ? left : kPerPart, to);
  });
  return SIGHTLINE_OK;
}

inline sightline_status linear(const Call& call, const Linear& p) {
  const double useful = (double)p.rows * p.columns * p.depth / kWorkPerThread + 1;
  const int workers = useful < call.threads ? (int)useful : call.threads;
  const LinearShares shares(p, workers);
  const WorkerMemory scratch(workers, call.kernels.linear_scratch(p.rows));
  if (!scratch.ok()) return SIGHTLINE_OUT_OF_MEMORY;
  parallel_for(workers, shares.across * shares.down, [&](int worker, int64_t item) {
    call.kernels.linear_block(p, shares.part(p, item), scratch.of(worker));
  });
  return SIGHTLINE_OK;
}

}  // namespace sightline
