// Images and windows as Python passes them.
#pragma once

#include <cstddef>
#include <stdexcept>

#include "conv/convolution.hpp"
#include "core/dtype.hpp"
#include "python/target.hpp"

// One number for each spatial dimension; fewer than three become the last of three.
inline pyinit::Extents to_extents(const pyinit::Integers& values, size_t dims, int64_t otherwise) {
  if (values.size() != dims) throw std::invalid_argument("window: takes one number for each spatial dimension");
  pyinit::Extents all{otherwise, otherwise, otherwise};
  for (size_t i = 0; i < dims; ++i) all[pyinit::kSpatial - dims + i] = values[i];
  return all;
}

template <class T> pyinit::Images<T> to_images(const Target& t) {
  const size_t dims = t.shape.size() - 2;
  pyinit::Integers sizes, strides;
  for (size_t i = 2; i < t.shape.size(); ++i) sizes.push_back(t.shape[i]), strides.push_back(t.strides[i]);
  return {reinterpret_cast<T*>(t.address), t.shape[0],   t.shape[1],
          to_extents(sizes, dims, 1),      t.strides[0], t.strides[1],
          to_extents(strides, dims, 0)};
}

// run(value) of float or double, whichever the target holds.
template <class Run> void on_type(const Target& t, Run&& run) {
  if (t.dtype == static_cast<int>(pyinit::DType::f32)) {
    run(float{});
  } else {
    run(double{});
  }
}
