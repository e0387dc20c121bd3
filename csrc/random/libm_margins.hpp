// How near to the middle between two doubles a result must lie for the C library to round it its own way.
#pragma once

namespace pyinit {

// The numbers of the C library's log, sin and cos. Its results are those of exact arithmetic, rounded,
// wherever the exact number is farther from the middle between two doubles than the library's error
// beyond 1/2 ulp. glibc states errors up to 0.519 ulp for log; up to 0.518 for sin and cos, but 0.548 for
// sin below 0.855469. What sin and cos really reach is 0.516, and 0.523 where it has no FMA. The margins
// leave room for more than that and our own error of 0.002. The library itself computes what lies nearer.
inline constexpr double kLogMargin = 0.03, kSinCosMargin = 0.04, kFirstSinMargin = 0.0625, kFirstSin = 0.86;

}  // namespace pyinit
