#include "once/runtime/threads.h"

#include <cfenv>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace sightline {
namespace {

struct Job {
  void (*run)(void* context, int worker);
  void* context;
  int places;       // for helpers
  int joined = 0;   // helpers that have begun
  int running = 0;  // helpers that are at it
  fenv_t rounding;  // helpers round, and treat subnormal numbers, as the caller does
  Job* next = nullptr;
};

class Pool {
 public:
  void share(Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    grow(job.places);
    Job** last = &waiting_;
    while (*last) last = &(*last)->next;
    *last = &job;
    lock.unlock();
    for (int i = 0; i < job.places; i++) wake_.notify_one();

    job.run(job.context, 0);

    lock.lock();
    remove(job);  // whoever has not come by now has nothing left to do
    done_.wait(lock, [&] { return job.running == 0; });
  }

 private:
  void grow(int helpers) {
    try {
      for (; helpers_ < helpers; helpers_++) std::thread([this] { help(); }).detach();
    } catch (...) {  // no more threads to be had
    }
  }

  void remove(Job& job) {
    for (Job** at = &waiting_; *at; at = &(*at)->next) {
      if (*at != &job) continue;
      *at = job.next;
      return;
    }
  }

  void help() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return waiting_ != nullptr; });
      Job& job = *waiting_;
      const int worker = ++job.joined;
      if (job.joined == job.places) remove(job);
      job.running++;
      lock.unlock();
      fesetenv(&job.rounding);
      job.run(job.context, worker);
      lock.lock();
      if (--job.running == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Job* waiting_ = nullptr;  // jobs with places left, oldest first
  int helpers_ = 0;
};

// Never destroyed: its helpers may outlive every static object. A forked child forgets its parent's, whose
// helpers are not there and whose mutex may be locked for ever.
std::atomic<Pool*> pool{nullptr};

Pool* get_pool() {
  static std::once_flag once;
  std::call_once(once, [] {
#if !defined(_WIN32)
    pthread_atfork(nullptr, nullptr, [] { pool.store(nullptr); });
#endif
  });
  Pool* found = pool.load();
  if (found) return found;
  Pool* fresh = new (std::nothrow) Pool;
  if (!fresh || pool.compare_exchange_strong(found, fresh)) return fresh;
  delete fresh;  // another caller was faster
  return found;
}

}  // namespace

void run_on_threads(int workers, void (*run)(void* context, int worker), void* context) {
  Job job = {run, context, workers - 1, 0, 0, {}, nullptr};
  Pool* shared = workers > 1 ? get_pool() : nullptr;
  if (!shared) return run(context, 0);
  fegetenv(&job.rounding);
  shared->share(job);
}

}  // namespace sightline
