// What a parallel region is expected to lose, judged by the last ones.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace pyinit {

// A region loses the time that it takes beyond that of its parts one after the other: it waits for threads that the
// system runs late, because other programs keep the processors busy or because it has put two threads on one processor.
// The next region is expected to lose as much, then less and less as time passes without a loss, and nothing after
// kMemory times the loss. So what is lost by trying again stays a small part of the whole. Times are nanoseconds.
class ExpectedLoss {
 public:
  int64_t at(int64_t now) const { return std::max<int64_t>(0, until_.load(std::memory_order_relaxed) - now) / kMemory; }

  // A region that ended `now` has lost this much, or has gained if it is negative.
  void add(int64_t loss, int64_t now) {
    const int64_t until = now + kMemory * std::min(loss, kMost);
    if (until > until_.load(std::memory_order_relaxed)) until_.store(until, std::memory_order_relaxed);
  }

 private:
  static constexpr int64_t kMemory = 32;
  static constexpr int64_t kMost = 100'000'000;  // the process may have been stopped

  std::atomic<int64_t> until_{0};
};

}  // namespace pyinit
