// Sums of powers for statistics, value by value: of vectors on instruction sets, of one lane on devices.
#pragma once

#include "random/moments.hpp"
#include "simd/vec.hpp"

namespace pyinit::PYINIT_NS {

// Of distances from the first value, and the range.
template <class V> struct DistanceSums {
  V sum, squares, low, high;

  PYINIT_METHOD void begin(V first) {
    sum = squares = constant<V>(0);
    low = high = first;
  }
  PYINIT_METHOD void add(V value, V first) {
    const V distance = value - first;
    sum = sum + distance;
    squares = multiply_add(distance, distance, squares);
    low = min(value, low);
    high = max(value, high);
  }
};

// Of z = (x - centre) scale.
template <class V> struct PowerSums {
  V first, second, third, fourth;

  PYINIT_METHOD void begin() { first = second = third = fourth = constant<V>(0); }
  PYINIT_METHOD void add(V value, V centre, V scale) {
    const V z = (value - centre) * scale, square = z * z;
    first = first + z;
    second = second + square;
    third = multiply_add(square, z, third);
    fourth = multiply_add(square, square, fourth);
  }
};

// Counts in lanes as wide as the values.
PYINIT_INLINE U32 no_counts(F32) { return u32(0); }
PYINIT_INLINE U64 no_counts(F64) { return u64(0); }

// Where it is known that no value is at the bounds, these are not looked at.
template <class V, bool has_bounds = true> struct Counts {
  decltype(no_counts(V{})) zeros, low, high;

  PYINIT_METHOD void begin() { zeros = low = high = no_counts(V{}); }
  PYINIT_METHOD void add(V value, V low_bound, V high_bound) {
    zeros = counted(equal(value, constant<V>(0)), zeros);
    if constexpr (has_bounds) {
      low = counted(less_equal(value, low_bound), low);
      high = counted(less_equal(high_bound, value), high);
    }
  }
};

// What makes one lane of two.
struct Sum {
  PYINIT_METHOD F64 operator()(F64 a, F64 b) const { return a + b; }
  PYINIT_METHOD double operator()(double a, double b) const { return a + b; }
};
// Of zeros of both signs the one in the lane before.
struct Least {
  PYINIT_METHOD F64 operator()(F64 a, F64 b) const { return min(b, a); }
  PYINIT_METHOD double operator()(double a, double b) const { return b < a ? b : a; }
};
struct Greatest {
  PYINIT_METHOD F64 operator()(F64 a, F64 b) const { return max(b, a); }
  PYINIT_METHOD double operator()(double a, double b) const { return b > a ? b : a; }
};

}  // namespace pyinit::PYINIT_NS
