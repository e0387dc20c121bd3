// Images as columns, and columns summed up to images: what lies under each tap of a kernel at each of its places.
#pragma once

#include <cstdint>

#include "conv/convolution.hpp"

namespace pyinit {

// For each image a matrix: rows are channels times taps, in this order, and columns are places. Both are row-major in
// three dimensions. Strides are in elements.
template <class T> struct Columns {
  T* data;
  Extents kernel, places;
  int64_t batch_stride, row_stride, place_stride;

  int64_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
};

// columns(n, (c, t), p) = images(n, c, p stride - padding + t dilation), which is 0 outside. The window's groups do not
// matter. The outputs of these must not overlap: nothing is checked.
template <class T>
void im2col(const Window& window, const Images<const T>& images, const Columns<T>& columns, int threads);

// The transposed map: each pixel is the sum, from 0 on in the order of taps, of the elements that im2col would make of
// it.
template <class T>
void col2im(const Window& window, const Columns<const T>& columns, const Images<T>& images, int threads);

}  // namespace pyinit
