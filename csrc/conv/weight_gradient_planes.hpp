// A convolution's gradient by its weight where output channels are few: sums over pixels in lanes of vectors, since
// vectors of channels would be mostly empty, or take as many loads as multiply-adds.
#pragma once

#include "conv/convolution.hpp"

namespace pyinit {

// Whether it is meant for it: by sizes and the order of memory alone, since the sums depend on it.
template <class T>
bool goes_by_planes(const Window& window, const Images<T>& weight, const Images<const T>& output);

// As convolve_weight_gradient.
template <class T>
void weight_gradient_by_planes(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads);

}  // namespace pyinit
