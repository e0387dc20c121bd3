// The routes of convolutions that have one input channel a group: plane by plane, for any strides; pixel by pixel,
// where the channels lie side by side and there is one output channel for each input channel; and in tiles, pixel by
// pixel too, where planes are small.
#pragma once

#include "conv/convolution.hpp"
#include "conv/finish.hpp"

namespace pyinit {

// Both directions are sums over taps: `source` and `out` are input and output of convolve, or of its transposed map.
template <class T>
void depthwise_planes(const Window& window, bool transposed, const Images<const T>& source,
                      const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads);
template <class T>
void depthwise_pixels(const Window& window, bool transposed, const Images<const T>& source,
                      const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads);

// The same as depthwise_planes for what are_few planes with small kernels.
template <class T>
bool are_few(const Window& window, bool transposed, const Images<const T>& weight, const Images<T>& out);
template <class T>
void depthwise_few(const Window& window, bool transposed, const Images<const T>& source, const Images<const T>& weight,
                   const Epilogue<T>& epilogue, const Images<T>& out);

// The same as depthwise_planes for planes that fit_tiles.
template <class A, class B>
bool fit_tiles(const Window& window, bool transposed, const Images<A>& source, const Images<B>& out,
               const Extents& kernel);
template <class T>
void depthwise_tiles(const Window& window, bool transposed, const Images<const T>& source,
                     const Images<const T>& weight, const Epilogue<T>& epilogue, const Images<T>& out, int threads);
template <class T>
void depthwise_tiles_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                              const Images<T>& weight, int threads);

template <class T>
void depthwise_planes_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads);
template <class T>
void depthwise_pixels_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads);

// What is left to be done with sums that the kernels have stored: any other activation.
template <class T> Epilogue<T> rest(const Epilogue<T>& epilogue) {
  const bool done = epilogue.activation == Activation::relu;
  return {nullptr, done ? Activation::none : epilogue.activation, epilogue.parameter};
}

}  // namespace pyinit
