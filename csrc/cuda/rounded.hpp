// A double each of whose operations rounds by itself: the compiler may contract a product and a sum of plain ones.
#pragma once

#include "simd/vec.hpp"

namespace pyinit::cuda {

class Rounded {
 public:
  PYINIT_METHOD Rounded(double x) : x_(x) {}
  PYINIT_METHOD explicit operator double() const { return x_; }
  PYINIT_METHOD friend Rounded operator+(Rounded a, Rounded b) { return add(a.x_, b.x_); }
  PYINIT_METHOD friend Rounded operator-(Rounded a, Rounded b) { return subtract(a.x_, b.x_); }
  PYINIT_METHOD friend Rounded operator*(Rounded a, Rounded b) { return multiply(a.x_, b.x_); }
  PYINIT_METHOD friend Rounded operator/(Rounded a, Rounded b) { return divide(a.x_, b.x_); }

 private:
  double x_;
};

}  // namespace pyinit::cuda
