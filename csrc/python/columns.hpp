// Columns as Python passes them, for im2col and col2im.
#pragma once

#include <stdexcept>

#include "conv/columns.hpp"
#include "python/images.hpp"

inline int64_t product(const pyinit::Integers& values) {
  int64_t all = 1;
  for (const int64_t value : values) all *= value;
  return all;
}

// Python has compared everything with torch's rules; what would lead astray here is looked at once more.
inline void check_columns(const Target& images, const Target& columns, const pyinit::Integers& kernel,
                          const pyinit::Integers& places, const pyinit::Integers& stride) {
  const bool is_float =
      images.dtype == static_cast<int>(pyinit::DType::f32) || images.dtype == static_cast<int>(pyinit::DType::f64);
  if (!is_float || columns.dtype != images.dtype) {
    throw std::invalid_argument("dtype: takes float32 or float64, the same of both");
  }
  const size_t dims = images.shape.size();
  if (dims < 3 || dims > 2 + pyinit::kSpatial || images.strides.size() != dims) {
    throw std::invalid_argument("images: takes 3 to 5 dimensions");
  }
  for (const int64_t step : stride) {
    if (step < 1) throw std::invalid_argument("stride: takes numbers from 1 on");
  }
  if (columns.shape.size() != 3 || columns.strides.size() != 3 || columns.shape[0] != images.shape[0] ||
      columns.shape[1] != images.shape[1] * product(kernel) || columns.shape[2] != product(places)) {
    throw std::invalid_argument("columns: takes (batch, channels times taps, places)");
  }
}

template <class T> pyinit::Columns<T> to_columns(const Target& t, const pyinit::Integers& kernel,
                                                 const pyinit::Integers& places, size_t dims) {
  return {reinterpret_cast<T*>(t.address),
          to_extents(kernel, dims, 1),
          to_extents(places, dims, 1),
          t.strides[0],
          t.strides[1],
          t.strides[2]};
}

inline pyinit::Window to_window(const pyinit::Integers& stride, const pyinit::Integers& padding,
                                const pyinit::Integers& dilation, size_t dims) {
  return {to_extents(stride, dims, 1), to_extents(padding, dims, 0), to_extents(dilation, dims, 1), 1};
}
