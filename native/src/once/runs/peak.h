// The best of many bursts of multiply-adds.
#pragma once

#include <chrono>

namespace sightline {

inline double best_gflops(double (*burst)(), double seconds) {
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  double best = 0;
  do {
    const auto before = Clock::now();
    const double operations = burst();
    const double elapsed = std::chrono::duration<double>(Clock::now() - before).count();
    if (elapsed > 0 && operations / elapsed > best) best = operations / elapsed;
  } while (std::chrono::duration<double>(Clock::now() - begin).count() < seconds);
  return best * 1e-9;
}

}  // namespace sightline
