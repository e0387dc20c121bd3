// Work that is left before its end: because its caller asks for that, or because a thread could not go on.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <type_traits>

namespace pyinit {

namespace detail {
// What a thread looks at.
struct Sights {
  const std::atomic<bool>* exit = nullptr;  // of the region that it works in
  void (*ask)() = nullptr;
  std::chrono::steady_clock::time_point next;  // question; not known before the first look: short work reads no clock
};
}  // namespace detail

// While one lives, its thread calls `ask` from time to time in the middle of kernels. What that throws ends the kernel.
// It may call kernels itself.
class Interruptible {
 public:
  explicit Interruptible(void (*ask)());
  ~Interruptible();
  Interruptible(const Interruptible&) = delete;
  Interruptible& operator=(const Interruptible&) = delete;

 private:
  const detail::Sights before_;
};

// Between pieces of work: throws where it is to be left. Takes a look at the clock.
void look_around();

// Looks around after every so much work, which is some ten microseconds of it or, where memory is slow, milliseconds.
class Lookout {
 public:
  // So many elements or multiply-adds are done.
  void after(int64_t work) {
    left_ -= work;
    if (left_ > 0) return;
    left_ = kWork;
    look_around();
  }

 private:
  static constexpr int64_t kWork = int64_t{1} << 16;
  int64_t left_ = kWork;
};

// The way out of a parallel region, over whose end no exception may go: what one thread throws is kept, and the others
// leave when they look around.
class Exit {
 public:
  // body(), in a thread of the region.
  template <class Body> void guard(Body&& body) noexcept {
    run([](void* pointer) { (*static_cast<std::remove_reference_t<Body>*>(pointer))(); }, &body);
  }
  // After the region: throws what was thrown.
  void rethrow() const {
    if (first_) std::rethrow_exception(first_);
  }

 private:
  void run(void (*body)(void*), void* context) noexcept;

  std::atomic<bool> is_open_{false};
  std::exception_ptr first_;
};

}  // namespace pyinit
