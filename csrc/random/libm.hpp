// Which C library computes log, sin and cos: torch's own numbers have its bits.
#pragma once

namespace pyinit {

// Whether it is glibc from 2.28 on, whose errors and methods are known. Found out before any thread asks: a child
// forked meanwhile would wait for that thread.
extern const bool libm_is_glibcs;

}  // namespace pyinit
