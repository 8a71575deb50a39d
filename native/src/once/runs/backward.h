// Runs the backward kernels over the shares, and puts together what they summed.
#pragma once

#include "once/memory/key_sums.h"
#include "once/memory/term_sums.h"
#include "once/runtime/call.h"
#include "once/runtime/threads.h"
#include "once/schedules/backward.h"
#include "shared/hides.h"

namespace sightline {

class Backward {
 public:
  Backward(const Call& call, const sightline_problem& p, const sightline_gradients& g)
      : call_(call),
        kernels_(call.kernels),
        problem_(p),
        grads_(g),
        schedule_(kernels_, p, call.threads),
        cuts_(1, sizeof(int64_t) * (schedule_.shares() + 1)),
        scratch_(schedule_.shares(), kernels_.backward_scratch(p)),
        packed_(schedule_.shares(), sizeof(float) * kernels_.backward_words(p)),
        keys_(p, g, schedule_.shares()),
        terms_(kernels_, p, g, schedule_.shares()) {}

  sightline_status run() {
    if (!cuts_.ok() || !scratch_.ok() || !packed_.ok() || !keys_.ok() || !terms_.ok()) {
      return SIGHTLINE_OUT_OF_MEMORY;
    }
    schedule_.cut(cuts());
    terms_.begin();
    const int shares = schedule_.shares();
    parallel_for(shares, shares,
                 [&](int worker, int64_t share) { run_share((int)share, call_.zones(worker)); });
    if (schedule_.per_unit() == 0) {
      for (int64_t unit = 0; unit < schedule_.units(); unit++) write_zeros(unit, call_.zones());
    }
    const int64_t slices = shares > 1 ? shares : 0;
    parallel_for(shares, (shares - 1) * slices, [&](int worker, int64_t item) {
      merge_unit((int)(item / slices) + 1, problem_.keys * (item % slices) / slices,
                 problem_.keys * (item % slices + 1) / slices, call_.zones(worker));
    });
    merge_terms();
    return SIGHTLINE_OK;
  }

 private:
  int64_t* cuts() const { return reinterpret_cast<int64_t*>(cuts_.of(0)); }

  void run_share(int share, const Zones* zones) {
    terms_.clear(share);
    const TermSums term_sums = terms_.sums(share);
    const int64_t begin = cuts()[share], end = cuts()[share + 1], per_unit = schedule_.per_unit();
    for (int64_t at = begin; at < end;) {
      const int64_t unit = schedule_.unit_of(at), first = unit * per_unit, last = first + per_unit;
      const int64_t stop = last < end ? last : end;
      const KeySums sums = keys_.sums(share, at > first ? 0 : 1);
      run_unit(share, unit, {at, stop}, sums, term_sums, zones);
      if (at == first && stop == last) write_keys(unit, sums, 0, problem_.keys, zones);
      at = stop;
    }
  }

  struct Items {
    int64_t begin, end;
  };

  // Asking beforehand whether what may be hidden is finite takes a fourteenth of a short call's time. Where a
  // unit adds to nothing but its own gradients, these say afterwards whether it was needed: then all is
  // computed once more.
  void run_unit(int share, int64_t unit, const Items& items, const KeySums& sums, const TermSums& term_sums,
                const Zones* zones) const {
    float* packed = reinterpret_cast<float*>(packed_.of(share));
    pack(unit, packed, zones);
    const bool alone = !(grads_.bias || grads_.slopes || grads_.table || grads_.sinks);
    if (alone && may_hide(problem_) &&
        run_items(share, items, {packed, true, true}, sums, term_sums, zones)) {
      return;
    }
    run_items(share, items, {packed, false, is_moderate(unit, zones)}, sums, term_sums, zones);
  }

  // False at the first block of a trusted head that something has spoiled, and where that shows in the sums.
  bool run_items(int share, const Items& items, const BackwardHead& head, const KeySums& sums,
                 const TermSums& term_sums, const Zones* zones) const {
    keys_.clear(sums, zones);
    for (int64_t at = items.begin; at < items.end; at++) {
      const BackwardSchedule::Item item = schedule_.item(at);
      if (!kernels_.backward_block(problem_, head, grads_, item.b, item.h, item.first,
                                   {scratch_.of(share), zones}, sums, term_sums)) {
        return false;
      }
    }
    return !head.trusted || are_numbers(sums, zones);
  }

  void pack(int64_t unit, float* packed, const Zones* zones) const {
    const Zone zone(zones, SIGHTLINE_STAGE_SCORES);
    kernels_.pack_backward(problem_, unit / problem_.kv_heads, unit % problem_.kv_heads, packed);
  }
  bool is_moderate(int64_t unit, const Zones* zones) const {
    const Zone zone(zones, SIGHTLINE_STAGE_SCORES);
    return kernels_.head_moderate(problem_, unit / problem_.kv_heads, unit % problem_.kv_heads);
  }
  bool are_numbers(const KeySums& sums, const Zones* zones) const {
    const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_SCORES));
    return (!sums.key || kernels_.all_numbers(sums.key, problem_.keys * padded_width(problem_.width))) &&
           (!sums.value ||
            kernels_.all_numbers(sums.value, problem_.keys * padded_width(problem_.value_width)));
  }

  // --- Sums to gradients ---

  // Keys [begin, end) of the unit.
  void write_keys(int64_t unit, const KeySums& sums, int64_t begin, int64_t end, const Zones* zones) const {
    if (sums.key) {
      const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_SCORES));
      write_rows(unit, sums.key, problem_.scale, problem_.width, begin, end, grads_.key, grads_.key_stride);
    }
    if (sums.value) {
      const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_CONTEXT));
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
  void write_zeros(int64_t unit, const Zones* zones) const {
    const KeySums sums = keys_.sums(0, 0);
    keys_.clear(sums, zones);
    write_keys(unit, sums, 0, problem_.keys, zones);
  }

  // Adds up the unit that the cut before `share` splits, if it is the first cut that does.
  void merge_unit(int share, int64_t begin, int64_t end, const Zones* zones) const {
    const int64_t cut = cuts()[share], per_unit = schedule_.per_unit();
    if (per_unit == 0 || cut % per_unit == 0) return;
    const int64_t unit = schedule_.unit_of(cut), first = unit * per_unit, last = first + per_unit;
    if (cuts()[share - 1] > first) return;
    const KeySums total = keys_.sums(share - 1, 1);
    for (int s = share; s < schedule_.shares() && cuts()[s] < last; s++) {
      if (cuts()[s] == cuts()[s + 1]) continue;
      add_keys(total, keys_.sums(s, 0), begin, end, zones);
    }
    write_keys(unit, total, begin, end, zones);
  }
  void add_keys(const KeySums& total, const KeySums& more, int64_t begin, int64_t end,
                const Zones* zones) const {
    if (total.key) {
      const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_SCORES));
      add_rows(total.key, more.key, problem_.width, begin, end);
    }
    if (total.value) {
      const Zone zone(zones, gradient_of(SIGHTLINE_STAGE_CONTEXT));
      add_rows(total.value, more.value, problem_.value_width, begin, end);
    }
  }
  static void add_rows(float* to, const float* from, int64_t width, int64_t begin, int64_t end) {
    for (int64_t i = begin * padded_width(width); i < end * padded_width(width); i++) to[i] += from[i];
  }

  void merge_terms() const {
    const bool biased = grads_.bias || grads_.slopes || grads_.table;
    const Zone zone(biased ? call_.zones() : nullptr, gradient_of(SIGHTLINE_STAGE_BIASED));
    terms_.merge();
  }

  const Call& call_;
  const Kernels& kernels_;
  const sightline_problem& problem_;
  const sightline_gradients& grads_;
  BackwardSchedule schedule_;
  WorkerMemory cuts_, scratch_, packed_;
  KeyMemory keys_;
  TermMemory terms_;
};

}  // namespace sightline
