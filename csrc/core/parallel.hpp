// Parallel loops over OpenMP's pool, which torch shares.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace pyinit {

// How many threads to use: at most `threads`, one for every `grain` of `work`; one inside a parallel
// region, and in a forked child, where the parent's pool is gone.
int usable_threads(int threads, int64_t work, int64_t grain);

namespace detail {
void run_parallel(int threads, void (*body)(void*, int), void* context);
}

// body(begin, end) over a partition of [0, count) into `threads` ranges, whose borders are multiples
// of `align`. The body must not throw.
template <class Body> void parallel_ranges(int threads, int64_t count, int64_t align, Body&& body) {
  if (threads <= 1) return body(int64_t{0}, count);
  const int64_t blocks = (count + align - 1) / align;
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

// body(task, thread) for tasks 0 .. count - 1, begun in this order, each by a thread that is free. The body must not
// throw.
template <class Body> void parallel_tasks(int threads, int64_t count, Body&& body) {
  std::atomic<int64_t> next{0};
  const auto work = [&](int thread) {
    for (int64_t task = next++; task < count; task = next++) body(task, thread);
  };
  if (threads <= 1 || count <= 1) return work(0);
  detail::run_parallel(
      threads, [](void* pointer, int thread) { (*static_cast<decltype(work)*>(pointer))(thread); },
      const_cast<void*>(static_cast<const void*>(&work)));
}

// The path of the OpenMP runtime in use.
std::string openmp_runtime();

}  // namespace pyinit
