// What blocks need to know of rows, where the forward pass decoded them.
#pragma once

#include <cmath>
#include <optional>

#include "once/runs/forward.h"

namespace sightline {

// Decode adds the products of a score up in another order than blocks do, so logits differ by an ulp or two.
// Where that is more than weights can bear, blocks compute once more what they are going to use themselves.
class BlocksAgain {
 public:
  BlocksAgain(const Call& call, const sightline_problem& p, const double* lse, bool context)
      : needed_(decodes(call.kernels, p) && any_far(lse, rows(p))) {
    if (!needed_) return;
    const int64_t row = p.value_width, head = row * p.queries;
    lse_.emplace(1, sizeof(double) * rows(p));
    context_.emplace(1, context ? element_bytes(p.dtype) * rows(p) * row : 0);
    out_ = {context ? context_->of(0) : nullptr,
            {head * p.heads, head, row},
            reinterpret_cast<double*>(lse_->of(0))};
    status_ = lse_->ok() && context_->ok() ? forward_blocks(call, p, out_) : SIGHTLINE_OUT_OF_MEMORY;
  }

  sightline_status status() const { return status_; }
  bool needed() const { return needed_; }
  const ForwardOut& out() const { return out_; }

 private:
  static constexpr double kFar = 16;  // an ulp is 2e-6 there

  static int64_t rows(const sightline_problem& p) { return p.batch * p.heads * p.queries; }
  static bool any_far(const double* lse, int64_t count) {
    for (int64_t row = 0; row < count; row++) {
      if (std::isfinite(lse[row]) && std::fabs(lse[row]) > kFar) return true;
    }
    return false;
  }

  bool needed_;
  std::optional<WorkerMemory> lse_, context_;
  ForwardOut out_ = {};
  sightline_status status_ = SIGHTLINE_OK;
};

}  // namespace sightline
