#include "core/parallel.hpp"

#include <dlfcn.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>

namespace pyinit {
namespace {

std::atomic<bool> is_forked_child{false};

const int at_fork_registered = pthread_atfork(nullptr, nullptr, [] { is_forked_child = true; });

}  // namespace

int usable_threads(int threads, int64_t work, int64_t grain) {
  const int64_t wanted = std::min<int64_t>(threads, work / grain);
  if (wanted <= 1 || is_forked_child.load(std::memory_order_relaxed) || omp_in_parallel() != 0) return 1;
  return static_cast<int>(wanted);
}

void detail::run_parallel(int threads, void (*body)(void*, int), void* context) {
  Exit exit;
#pragma omp parallel num_threads(threads)
  exit.guard([&] {
    // The runtime may give fewer threads than asked for: each takes every team-size-th part.
    for (int part = omp_get_thread_num(); part < threads; part += omp_get_num_threads()) body(context, part);
  });
  exit.rethrow();
}

namespace {

constexpr int kSpins = 1 << 12;                  // before others get the processor
constexpr int64_t kTaskWork = int64_t{1} << 12;  // that a task counts for; long ones look around themselves

void wait_for(const std::atomic<int64_t>& done, int64_t count) {
  for (int spins = 0; done.load(std::memory_order_acquire) < count; ++spins) {
    if (spins < kSpins) continue;
    look_around();  // a thread that has left does not finish what it has begun
    sched_yield();
  }
}

}  // namespace

void Steps::run(int threads) {
  if (threads <= 1) {
    Lookout lookout;
    for (const Step& step : steps_) {
      for (int64_t task = 0; task < step.count; ++task) {
        step.body(task, 0);
        lookout.after(kTaskWork);
      }
    }
    return;
  }
  const auto work = [](void* steps, int thread) {
    Lookout lookout;
    for (Step& step : *static_cast<std::deque<Step>*>(steps)) {
      for (int64_t task = step.begun++; task < step.count; task = step.begun++) {
        step.body(task, thread);
        step.done.fetch_add(1, std::memory_order_release);
        lookout.after(kTaskWork);
      }
      wait_for(step.done, step.count);
    }
  };
  detail::run_parallel(threads, work, &steps_);
}

std::string openmp_runtime() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&omp_get_num_threads), &info) == 0 || info.dli_fname == nullptr) return "unknown";
  return info.dli_fname;
}

}  // namespace pyinit
