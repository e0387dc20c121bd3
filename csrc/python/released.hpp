// Kernels without the GIL.
#pragma once

#include <pybind11/pybind11.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdint>
#include <optional>

#include "core/interrupt.hpp"

// Runs the handlers of signals that have come, and throws what they raise: KeyboardInterrupt, most often.
inline void check_signals() {
#ifdef __linux__
  // Python runs them in the main thread alone; others need not wait for the GIL.
  if (syscall(SYS_gettid) != getpid()) return;
#endif
  const pybind11::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
}

// While one lives, its thread does without the GIL, and long kernels look for signals.
class Released {
 private:
  const pybind11::gil_scoped_release release_;
  const pyinit::Interruptible interruptible_{check_signals};
};

// From as much work on, other threads may run meanwhile: giving the GIL up and taking it back costs more than a small
// fill does.
constexpr int64_t kManyElements = 1 << 14;
constexpr double kManyProducts = 1 << 15;

// Gives the GIL up if there is much to do.
inline std::optional<Released> release_if(bool is_much) {
  return is_much ? std::optional<Released>(std::in_place) : std::nullopt;
}
