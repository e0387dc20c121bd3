#include "core/parallel.hpp"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>

#include "core/expected_loss.hpp"
#include "core/openmp.hpp"

namespace pyinit {
namespace {

constexpr int64_t kGrainTime = 10'000;  // nanoseconds that a grain of work takes, approximately

ExpectedLoss expected_loss;
std::atomic<bool> uses_threads_at_any_loss{false};

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::atomic<bool> is_forked_child{false};

const int at_fork_registered = pthread_atfork(nullptr, nullptr, [] { is_forked_child = true; });

}  // namespace

int usable_threads(int threads, int64_t work, int64_t grain) {
  const int64_t grains = work / grain, wanted = std::min<int64_t>(threads, grains);
  if (wanted <= 1 || is_forked_child.load(std::memory_order_relaxed) || omp_in_parallel() != 0) return 1;
  const int64_t saved = (grains - grains / wanted) * kGrainTime;
  if (expected_loss.at(now()) > saved && !uses_threads_at_any_loss.load(std::memory_order_relaxed)) return 1;
  return static_cast<int>(wanted);
}

void set_threads_at_any_loss(bool are_used) { uses_threads_at_any_loss = are_used; }

void detail::run_parallel(int threads, void (*body)(void*, int), void* context) {
  Exit exit;
  std::atomic<int64_t> in_parts{0};
  const int64_t begin = now();
  in_team(threads, [&] {
    const int64_t arrived = now();
    exit.guard([&] {
      // The runtime may give fewer threads than asked for: each takes every team-size-th part.
      for (int part = omp_get_thread_num(); part < threads; part += omp_get_num_threads()) body(context, part);
    });
    in_parts.fetch_add(now() - arrived, std::memory_order_relaxed);
  });
  const int64_t end = now();
  expected_loss.add(end - begin - in_parts, end);
  exit.rethrow();
}

namespace {

constexpr int kSpins = 1 << 12;                  // before other threads get the processor
constexpr int64_t kTaskWork = int64_t{1} << 12;  // what a task counts for; long tasks look around themselves

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
