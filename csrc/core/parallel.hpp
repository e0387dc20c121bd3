// Parallel loops over OpenMP's pool, which torch shares.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <utility>

#include "core/integers.hpp"
#include "core/interrupt.hpp"

namespace pyinit {

// How many threads to use: at most `threads`, one for every `grain` of `work`, which takes some 10 microseconds; one
// where that saves less than the region is expected to lose, inside a parallel region, and in a forked child, where the
// parent's pool is gone.
int usable_threads(int threads, int64_t work, int64_t grain);

// For tests: whether threads are used no matter what regions lose.
void set_threads_at_any_loss(bool are_used);

namespace detail {
void run_parallel(int threads, void (*body)(void*, int), void* context);
}

// Calls body(begin, end) over a partition of [0, count) into `threads` ranges, whose borders are multiples
// of `align`. If a body throws, the others leave as soon as they look around, and so does the caller.
template <class Body> void parallel_ranges(int threads, int64_t count, int64_t align, Body&& body) {
  if (threads <= 1) return body(int64_t{0}, count);
  const int64_t blocks = divide_up(count, align);
  struct Context {
    Body& body;
    int64_t count, align, blocks;
    int threads;
  } context{body, count, align, blocks, threads};
  detail::run_parallel(
      threads,
      [](void* pointer, int thread) {
        auto& c = *static_cast<Context*>(pointer);
        const auto border = [&](int t) {
          const int64_t at = (c.blocks / c.threads * t + c.blocks % c.threads * t / c.threads) * c.align;
          return at < c.count ? at : c.count;
        };
        const int64_t begin = border(thread), end = border(thread + 1);
        if (begin < end) c.body(begin, end);
      },
      &context);
}

// The same in pieces, between which threads look around. Each one of the count stands for `each` elements.
template <class Body> void parallel_pieces(int threads, int64_t count, int64_t align, int64_t each, Body&& body) {
  constexpr int64_t kPiece = int64_t{1} << 17;  // elements, approximately
  const int64_t piece = round_up(divide_up(kPiece, each > 1 ? each : 1), align);
  parallel_ranges(threads, count, align, [&](int64_t begin, int64_t end) {
    for (int64_t next; begin < end; begin = next) {
      next = end - begin > piece ? begin + piece : end;
      body(begin, next);
      if (next < end) look_around();
    }
  });
}

// Steps of work. Each is a number of tasks for all threads, and all of a step are done before the next one begins. A
// thread that the system has put aside holds up only what it has begun. If each step were a loop of its own, its end
// would wait for every thread.
class Steps {
 public:
  // Calls body(task, thread) for tasks 0 .. count - 1. If it throws, all threads leave.
  void add(int64_t count, std::function<void(int64_t, int)> body) { steps_.emplace_back(count, std::move(body)); }
  void run(int threads);

 private:
  struct Step {
    Step(int64_t count, std::function<void(int64_t, int)> body) : count(count), body(std::move(body)) {}
    const int64_t count;
    const std::function<void(int64_t, int)> body;
    std::atomic<int64_t> begun{0}, done{0};
  };
  std::deque<Step> steps_;  // a deque, unlike a vector, does not move them
};

// The path of the OpenMP runtime in use.
std::string openmp_runtime();

}  // namespace pyinit
