// Convolutions that have one input channel a group, and one or more output channels: direct, without a matrix product.
#pragma once

#include "conv/convolution.hpp"

namespace pyinit {

// Whether the functions below are meant for it. One channel of input to many of output is a matrix product.
template <class T> bool is_depthwise(const Window& window, const Images<T>& weight) {
  return weight.channels == 1 && weight.batch > 0 && (window.groups > 1 || weight.batch == 1);
}

// As convolve, convolve_transposed and convolve_weight_gradient.
template <class T>
void convolve_depthwise(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                        const Epilogue<T>& epilogue, const Images<T>& output, int threads);
template <class T>
void convolve_depthwise_transposed(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                                   const Epilogue<T>& epilogue, const Images<T>& output, int threads);
template <class T>
void depthwise_weight_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads);

}  // namespace pyinit
