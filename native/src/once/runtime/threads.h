// Sharing out numbered items among threads.
//
// The helpers are a few threads that sleep between calls: starting one takes four times as long as waking
// one. None spins, so PyTorch's own threads find the cores free; callers on several threads share them; and a
// forked child, which has none of its parent's threads, starts its own.
#pragma once

#include <atomic>
#include <cstdint>

namespace sightline {

// Runs run(context, worker) on up to `workers` threads at once, on this one as worker 0; returns when all
// that have begun are through. Helpers that are busy elsewhere, or that the system refuses, are done without.
void run_on_threads(int workers, void (*run)(void* context, int worker), void* context);

// Calls work(worker, item) once per item, on up to `workers` threads. This one has the first item, however
// fast the helpers are: what is observed on the calling thread is then never nothing.
template <class Work>
void parallel_for(int workers, int64_t items, const Work& work) {
  if (workers <= 1) {
    for (int64_t item = 0; item < items; item++) work(0, item);
    return;
  }
  struct Shared {
    const Work& work;
    int64_t items;
    std::atomic<int64_t> next;
  } shared = {work, items, {1}};
  run_on_threads(
      workers,
      [](void* context, int worker) {
        Shared& all = *static_cast<Shared*>(context);
        for (int64_t item = worker == 0 ? 0 : all.next++; item < all.items; item = all.next++) {
          all.work(worker, item);
        }
      },
      &shared);
}

}  // namespace sightline
