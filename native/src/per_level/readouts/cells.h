// Weights by the cell of their key: each row's sum, largest weight and number of visible keys in every cell.
//
// Cells are the columns of a picture, segments of keys, words. Neighbouring keys mostly share a cell, so a
// run of them is gathered in registers and joined to its cell once. Memory: three numbers, those that are
// wanted, for each of a block's rows and each cell.
#pragma once

#include "per_level/blocks/block.h"
#include "per_level/memory/scratch.h"
#include "per_level/products/tiles.h"
#include "per_level/products/transpose.h"
#include "per_level/stages/lse.h"
#include "per_level/vectors/functions.h"

namespace sightline {
namespace {

struct CellScratch {
  const int32_t* of_key;        // [M]
  int64_t count;                // cells
  float *sum, *highest, *seen;  // [cell][kBlockRows]; null: not wanted. `highest`: masked, in units of log 2
};

inline bool wants_cells(const sightline_readouts& out) {
  return out.cell_sum || out.cell_max || out.cell_seen;
}

inline CellScratch take_cells(const sightline_readouts& out, Scratch& scratch) {
  CellScratch cells = {};
  cells.count = wants_cells(out) ? out.cell_count : 0;
  if (out.cell_sum) cells.sum = scratch.take<float>(cells.count * kBlockRows);
  if (out.cell_max) cells.highest = scratch.take<float>(cells.count * kBlockRows);
  if (out.cell_seen) cells.seen = scratch.take<float>(cells.count * kBlockRows);
  return cells;
}

inline void clear_cells(const CellScratch& cells) {
  const int64_t count = cells.count * kBlockRows;
  if (cells.sum) memset(cells.sum, 0, sizeof(float) * count);
  if (cells.seen) memset(cells.seen, 0, sizeof(float) * count);
  for (int64_t i = 0; cells.highest && i < count; i++) cells.highest[i] = -kInfinity;
}

// `keys` rows of scores that share a cell, joined to it: `to` is its place among the block's rows.
template <int vectors>
SL_INLINE void sum_run(const float* scores, int keys, const LseVectors<vectors>& lse, float* to) {
  Vec sum[vectors] = {};
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      sum[v] += exp2(lse.log_weight(load(scores + k * kSlabRows + v * kLanes), v));
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) store(to + v * kLanes, load(to + v * kLanes) + sum[v]);
}

template <int vectors>
SL_INLINE void raise_run(const float* scores, int keys, float* to) {
  Vec highest[vectors];
  SL_UNROLL for (int v = 0; v < vectors; v++) highest[v] = load(to + v * kLanes);
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      highest[v] = max_of(highest[v], load(scores + k * kSlabRows + v * kLanes));
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) store(to + v * kLanes, highest[v]);
}

template <int vectors>
SL_INLINE void count_run(const float* scores, int keys, float* to) {
  Vec seen[vectors] = {};
#pragma GCC unroll 1
  for (int k = 0; k < keys; k++) {
    SL_UNROLL for (int v = 0; v < vectors; v++) {
      const Vec score = load(scores + k * kSlabRows + v * kLanes);
      seen[v] += select(greater(score, splat(-kInfinity)), splat(1.0f), Vec{});
    }
  }
  SL_UNROLL for (int v = 0; v < vectors; v++) store(to + v * kLanes, load(to + v * kLanes) + seen[v]);
}

// The scores of one patch, `row` its first row within the block and `key` its first key.
template <int vectors>
void gather_cells(const CellScratch& cells, const float* scores, int keys, int64_t key, const LseRows& rows,
                  int row) {
  const int32_t* cell = cells.of_key + key;
  const LseVectors<vectors> lse(rows);
  for (int k = 0; k < keys;) {
    int run = 1;
    while (k + run < keys && cell[k + run] == cell[k]) run++;
    const int64_t at = cell[k] * (int64_t)kBlockRows + row;
    const float* from = scores + k * kSlabRows;
    if (cells.sum) sum_run<vectors>(from, run, lse, cells.sum + at);
    if (cells.highest) raise_run<vectors>(from, run, cells.highest + at);
    if (cells.seen) count_run<vectors>(from, run, cells.seen + at);
    k += run;
  }
}

// masked -> weight; -1 where nothing is visible. Of a row whose every key is hidden that is all.
inline void weigh_highest(const CellScratch& cells, const LseRows& rows) {
  for (int64_t cell = 0; cell < cells.count; cell++) {
    for (int row = 0; row < kBlockRows; row += kLanes) {
      float* at = cells.highest + cell * kBlockRows + row;
      const Vec highest = load(at);
      const Vec weight = exp2(LseVectors<1>(rows.from(row)).log_weight(highest, 0));
      const Vec at_most_1 = select(greater(weight, splat(1.0f)), splat(1.0f), weight);  // rounding may pass 1
      store(at, select(equal(highest, splat(-kInfinity)), splat(-1.0f), at_most_1));
    }
  }
}

// [cell][kBlockRows] -> rows of cells.
inline void write_cell_rows(const Block& block, const float* from, int64_t count, float* to) {
  if (!to) return;
  to += block.out_row() * count;
  for (int row = 0; row < block.count; row += kLanes) {
    transpose_out(from + row, kBlockRows, splat(1.0f), count, smaller(kLanes, block.count - row),
                  to + row * count, count);
  }
}

inline void write_cells(const Block& block, const CellScratch& cells, const LseRows& lse,
                        const sightline_readouts& out) {
  if (cells.highest) weigh_highest(cells, lse);
  write_cell_rows(block, cells.sum, cells.count, out.cell_sum);
  write_cell_rows(block, cells.highest, cells.count, out.cell_max);
  write_cell_rows(block, cells.seen, cells.count, out.cell_seen);
}

}  // namespace
}  // namespace sightline
