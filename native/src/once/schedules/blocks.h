// How a problem is cut into parts that threads take one by one.
#pragma once

#include "shared/kernels.h"

namespace sightline {

struct Part {  // queries [begin, end) of one head
  int64_t b, h, begin, end;
};

// From so many blocks of a head on it is packed once for all: each would pack it, or read rows far apart.
constexpr int64_t kPackingPays = 2, kPackingFarPays = 4;
constexpr int64_t kPackingLimit = int64_t(256) << 20;  // bytes, over all workers

// Below this many multiply-adds for each (40 us), another thread saves too little: waking one costs 5 us
// where a core is idle, and more where none is.
constexpr double kWorkPerThread = 2e6;

struct Schedule {
  const Kernels& kernels;
  const sightline_problem& problem;
  int block_rows, workers;
  int64_t blocks;    // per head
  int64_t per_head;  // parts
  bool pack_keys, pack_values;

  // `whole_heads`: parts should be few, because each has a cost of its own.
  Schedule(const Kernels& level, const sightline_problem& p, int threads, bool values, bool whole_heads)
      : kernels(level),
        problem(p),
        block_rows(kernels.block_rows),
        blocks((p.queries + block_rows - 1) / block_rows) {
    const int64_t heads = p.batch * p.heads;
    workers = useful_workers(threads, heads * blocks, (double)p.width + (values ? p.value_width : 0));
    pack_keys = packing_pays(Side::kKey, p.key_stride[2], p.width);
    pack_values = values && packing_pays(Side::kValue, p.value_stride[2], p.value_width);
    const int64_t packed_bytes = (key_words() + value_words()) * (int64_t)sizeof(float);
    if (packed_bytes * workers > kPackingLimit) pack_keys = pack_values = false;
    per_head = whole_heads || pack_keys || pack_values ? few_parts(heads) : blocks;
  }

  int64_t parts() const { return problem.batch * problem.heads * per_head; }

  // Where workers share, a head's last queries go first: under a causal mask they have most to do, and the
  // short parts then even out who ends when.
  Part part(int64_t item) const {
    const int64_t head = item / per_head;
    const int64_t at = workers > 1 ? per_head - 1 - item % per_head : item % per_head;
    const int64_t begin = blocks * at / per_head * block_rows,
                  end = blocks * (at + 1) / per_head * block_rows;
    return {head / problem.heads, head % problem.heads, begin, end < problem.queries ? end : problem.queries};
  }

  // Room for the packed keys and values of one head, in floats; keys take whole cache lines, so that values
  // begin on one as well.
  int64_t key_words() const {
    return pack_keys ? (kernels.packed_words(problem, Side::kKey) + 15) / 16 * 16 : 0;
  }
  int64_t value_words() const { return pack_values ? kernels.packed_words(problem, Side::kValue) : 0; }

 private:
  int useful_workers(int threads, int64_t items, double columns) const {
    const double work = (double)problem.batch * problem.heads * problem.queries * problem.keys * columns;
    const double most = work / kWorkPerThread + 1;
    int64_t count = threads < items ? threads : items;
    if (most < count) count = (int64_t)most;
    return count < 1 ? 1 : (int)count;
  }

  // One part per head where heads alone keep every worker busy.
  int64_t few_parts(int64_t heads) const {
    if (heads % workers == 0 || heads >= 4 * workers) return 1;
    const int64_t wanted = (4 * (int64_t)workers + heads - 1) / heads;
    return wanted < blocks ? wanted : blocks;
  }

  bool packing_pays(Side side, int64_t stride, int64_t width) const {
    if (!kernels.in_place(problem, side)) return blocks >= kPackingPays;
    const bool far = stride * element_bytes(problem.dtype) >= kFarStride && stride > width;
    return far && blocks >= kPackingFarPays;
  }
};

}  // namespace sightline
