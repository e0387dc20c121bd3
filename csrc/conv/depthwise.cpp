#include "conv/depthwise.hpp"

#include "conv/depthwise_routes.hpp"

namespace pyinit {
namespace {

// Whether pixels are rows of channels in both, one of output for each of input.
template <class A, class B> bool has_rows_of_channels(const Images<A>& a, const Images<B>& b) {
  return a.channel_stride == 1 && b.channel_stride == 1 && a.channels == b.channels;
}

template <class T>
void correlate(const Window& window, bool transposed, const Images<const T>& source, const Images<const T>& weight,
               const Epilogue<T>& epilogue, const Images<T>& out, int threads) {
  if (has_rows_of_channels(source, out)) {
    depthwise_pixels(window, transposed, source, weight, epilogue, out, threads);
  } else if (are_few(window, transposed, weight, out)) {
    depthwise_few(window, transposed, source, weight, epilogue, out);
  } else if (fit_tiles(window, transposed, source, out, weight.size)) {
    depthwise_tiles(window, transposed, source, weight, epilogue, out, threads);
  } else {
    depthwise_planes(window, transposed, source, weight, epilogue, out, threads);
  }
}

}  // namespace

template <class T>
void convolve_depthwise(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                        const Epilogue<T>& epilogue, const Images<T>& output, int threads) {
  correlate(window, false, input, weight, epilogue, output, threads);
}

template <class T>
void convolve_depthwise_transposed(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                                   const Epilogue<T>& epilogue, const Images<T>& output, int threads) {
  correlate(window, true, input, weight, epilogue, output, threads);
}

template <class T>
void depthwise_weight_gradient(const Window& window, const Images<const T>& input, const Images<const T>& output,
                               const Images<T>& weight, int threads) {
  const auto route = has_rows_of_channels(input, output)                    ? depthwise_pixels_gradient<T>
                     : fit_tiles(window, false, input, output, weight.size) ? depthwise_tiles_gradient<T>
                                                                            : depthwise_planes_gradient<T>;
  route(window, input, output, weight, threads);
}

#define PYINIT_INSTANTIATE(T)                                                                                   \
  template void convolve_depthwise<T>(const Window&, const Images<const T>&, const Images<const T>&,            \
                                      const Epilogue<T>&, const Images<T>&, int);                               \
  template void convolve_depthwise_transposed<T>(const Window&, const Images<const T>&, const Images<const T>&, \
                                                 const Epilogue<T>&, const Images<T>&, int);                    \
  template void depthwise_weight_gradient<T>(const Window&, const Images<const T>&, const Images<const T>&,     \
                                             const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
