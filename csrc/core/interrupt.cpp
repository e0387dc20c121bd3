#include "core/interrupt.hpp"

#include <utility>

namespace pyinit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::milliseconds(100);  // between two questions

thread_local constinit detail::Sights sights;

// Thrown where another thread has thrown first.
struct Left {};

}  // namespace

Interruptible::Interruptible(void (*ask)()) : before_(std::exchange(sights, {nullptr, ask, {}})) {}
Interruptible::~Interruptible() { sights = before_; }

void look_around() {
  if (sights.exit != nullptr && sights.exit->load(std::memory_order_relaxed)) throw Left{};
  if (sights.ask == nullptr) return;
  const Clock::time_point now = Clock::now();
  if (now < sights.next) return;
  const bool is_first = sights.next == Clock::time_point{};
  sights.next = now + kPatience;
  if (is_first) return;
  const auto ask = sights.ask;
  const Interruptible others(nullptr);  // kernels that are called meanwhile
  ask();
}

void Exit::run(void (*body)(void*), void* context) noexcept {
  const auto outer = std::exchange(sights.exit, &is_open_);
  try {
    body(context);
  } catch (...) {
    if (!is_open_.exchange(true)) first_ = std::current_exception();
  }
  sights.exit = outer;
}

}  // namespace pyinit
