// Kernels without the taps that lie beside the image at all their places.
#pragma once

#include "conv/convolution.hpp"

namespace pyinit {

// A window and a weight that give the same sums.
template <class T> struct Trimmed {
  Window window;
  Images<T> weight;  // a part of the whole one; it may have no taps
};

template <class T>
Trimmed<T> trim(const Window& window, const Extents& image, const Images<T>& weight, const Extents& result);

}  // namespace pyinit
