// Runs the backward kernels over the shares, and puts together what they summed.
#pragma once

#include "once/memory/key_sums.h"
#include "once/memory/term_sums.h"
#include "once/schedules/backward.h"
#include "once/threads.h"

namespace sightline {

class Backward {
 public:
  Backward(const Kernels& kernels, const sightline_problem& p, const sightline_gradients& g, int threads)
      : kernels_(kernels),
        problem_(p),
        grads_(g),
        schedule_(kernels, p, threads),
        cuts_(1, sizeof(int64_t) * (schedule_.shares() + 1)),
        scratch_(schedule_.shares(), kernels.backward_scratch(p)),
        packed_(schedule_.shares(), sizeof(float) * kernels.backward_words(p)),
        keys_(p, g, schedule_.shares()),
        terms_(p, g, schedule_.shares()) {}

  sightline_status run() {
    if (!cuts_.ok() || !scratch_.ok() || !packed_.ok() || !keys_.ok() || !terms_.ok()) {
      return SIGHTLINE_OUT_OF_MEMORY;
    }
    schedule_.cut(cuts());
    terms_.begin();
    const int shares = schedule_.shares();
    parallel_for(shares, shares, [&](int, int64_t share) { run_share((int)share); });
    if (schedule_.per_unit() == 0) {
      for (int64_t unit = 0; unit < schedule_.units(); unit++) write_zeros(unit);
    }
    const int64_t slices = shares > 1 ? shares : 0;
    parallel_for(shares, (shares - 1) * slices, [&](int, int64_t item) {
      merge_unit((int)(item / slices) + 1, problem_.keys * (item % slices) / slices,
                 problem_.keys * (item % slices + 1) / slices);
    });
    terms_.merge();
    return SIGHTLINE_OK;
  }

 private:
  int64_t* cuts() const { return reinterpret_cast<int64_t*>(cuts_.of(0)); }

  void run_share(int share) {
    terms_.clear(share);
    const TermSums term_sums = terms_.sums(share);
    const int64_t begin = cuts()[share], end = cuts()[share + 1], per_unit = schedule_.per_unit();
    for (int64_t at = begin; at < end;) {
      const int64_t unit = schedule_.unit_of(at), first = unit * per_unit, last = first + per_unit;
      const int64_t stop = last < end ? last : end;
      const KeySums sums = keys_.sums(share, at > first ? 0 : 1);
      keys_.clear(sums);
      float* packed = reinterpret_cast<float*>(packed_.of(share));
      kernels_.pack_backward(problem_, unit / problem_.kv_heads, unit % problem_.kv_heads, packed);
      const bool whole = at == first && stop == last;
      for (; at < stop; at++) {
        const BackwardSchedule::Item item = schedule_.item(at);
        kernels_.backward_block(problem_, packed, grads_, item.b, item.h, item.first, scratch_.of(share),
                                sums, term_sums);
      }
      if (whole) write_keys(unit, sums, 0, problem_.keys);
    }
  }

  // --- Sums to gradients ---

  // Keys [begin, end) of the unit.
  void write_keys(int64_t unit, const KeySums& sums, int64_t begin, int64_t end) const {
    if (sums.key) {
      write_rows(unit, sums.key, problem_.scale, problem_.width, begin, end, grads_.key, grads_.key_stride);
    }
    if (sums.value) {
      write_rows(unit, sums.value, 1.0f, problem_.value_width, begin, end, grads_.value, grads_.value_stride);
    }
  }
  void write_rows(int64_t unit, const float* sums, float factor, int64_t width, int64_t begin, int64_t end,
                  void* base, const int64_t (&stride)[3]) const {
    const int64_t b = unit / problem_.kv_heads, g = unit % problem_.kv_heads;
    char* to = static_cast<char*>(base) +
               (b * stride[0] + g * stride[1] + begin * stride[2]) * element_bytes(problem_.dtype);
    kernels_.store_rows(sums + begin * padded_width(width), factor, end - begin, width, to, problem_.dtype,
                        stride[2]);
  }
  void write_zeros(int64_t unit) const {
    const KeySums sums = keys_.sums(0, 0);
    keys_.clear(sums);
    write_keys(unit, sums, 0, problem_.keys);
  }

  // Adds up the unit that the cut before `share` splits, if it is the first cut that does.
  void merge_unit(int share, int64_t begin, int64_t end) const {
    const int64_t cut = cuts()[share], per_unit = schedule_.per_unit();
    if (per_unit == 0 || cut % per_unit == 0) return;
    const int64_t unit = schedule_.unit_of(cut), first = unit * per_unit, last = first + per_unit;
    if (cuts()[share - 1] > first) return;
    const KeySums total = keys_.sums(share - 1, 1);
    for (int s = share; s < schedule_.shares() && cuts()[s] < last; s++) {
      if (cuts()[s] == cuts()[s + 1]) continue;
      const KeySums more = keys_.sums(s, 0);
      if (total.key) add_rows(total.key, more.key, problem_.width, begin, end);
      if (total.value) add_rows(total.value, more.value, problem_.value_width, begin, end);
    }
    write_keys(unit, total, begin, end);
  }
  static void add_rows(float* to, const float* from, int64_t width, int64_t begin, int64_t end) {
    for (int64_t i = begin * padded_width(width); i < end * padded_width(width); i++) to[i] += from[i];
  }

  const Kernels& kernels_;
  const sightline_problem& problem_;
  const sightline_gradients& grads_;
  BackwardSchedule schedule_;
  WorkerMemory cuts_, scratch_, packed_;
  KeyMemory keys_;
  TermMemory terms_;
};

}  // namespace sightline
