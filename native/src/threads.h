// Sharing out numbered items among threads that live for one call: nothing is left behind that a fork could
// break or that would spin while PyTorch's own threads work.
#pragma once

#include <atomic>
#include <cstdint>
#include <new>
#include <thread>

namespace sightline {

// Calls work(worker, item) once per item, on up to `workers` threads, this one among them; `worker` counts
// from 0. If the system refuses a thread, the others do its share.
template <class Work>
void parallel_for(int workers, int64_t items, const Work& work) {
  std::atomic<int64_t> next(0);
  const auto run = [&](int worker) {
    for (int64_t item = next++; item < items; item = next++) work(worker, item);
  };
  std::thread* helpers = workers > 1 ? new (std::nothrow) std::thread[workers - 1] : nullptr;
  int started = 0;
  try {
    while (helpers && started < workers - 1) {
      helpers[started] = std::thread(run, started + 1);
      started++;
    }
  } catch (...) {  // no more threads to be had
  }
  run(0);
  for (int i = 0; i < started; i++) helpers[i].join();
  delete[] helpers;
}

}  // namespace sightline
