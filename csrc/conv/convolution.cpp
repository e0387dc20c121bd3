#include "conv/convolution.hpp"

#include <cstddef>

namespace pyinit {
namespace {

template <class T, class F> void for_each_pixel(const Images<T>& x, F&& f) {
  for (int64_t d = 0; d < x.size[0]; ++d)
    for (int64_t h = 0; h < x.size[1]; ++h)
      for (int64_t w = 0; w < x.size[2]; ++w) f(Extents{d, h, w});
}
template <class T> T& at(const Images<T>& x, int64_t n, int64_t c, const Extents& p) {
  return x.data[n * x.batch_stride + c * x.channel_stride + p[0] * x.strides[0] + p[1] * x.strides[1] +
                p[2] * x.strides[2]];
}
bool source(const Window& w, const Extents& size, const Extents& p, const Extents& t, Extents& out) {
  for (size_t i = 0; i < 3; ++i) {
    out[i] = p[i] * w.stride[i] - w.padding[i] + t[i] * w.dilation[i];
    if (out[i] < 0 || out[i] >= size[i]) return false;
  }
  return true;
}
// f(output n, o, p, weight o, i, t, input n, c, q)
template <class A, class B, class C, class F>
void walk(const Window& w, const Images<A>& in, const Images<B>& weight, const Images<C>& out, F&& f) {
  const int64_t og = out.channels / w.groups, ig = in.channels / w.groups;
  for (int64_t n = 0; n < out.batch; ++n)
    for (int64_t o = 0; o < out.channels; ++o)
      for (int64_t i = 0; i < ig; ++i)
        for_each_pixel(out, [&](const Extents& p) {
          for_each_pixel(weight, [&](const Extents& t) {
            Extents q;
            if (!source(w, in.size, p, t, q)) return;
            f(at(out, n, o, p), at(weight, o, i, t), at(in, n, o / og * ig + i, q));
          });
        });
}
template <class T> void fill(const Images<T>& x, const Epilogue<T>& e) {
  for (int64_t n = 0; n < x.batch; ++n)
    for (int64_t c = 0; c < x.channels; ++c)
      for_each_pixel(x, [&](const Extents& p) { at(x, n, c, p) = e.bias != nullptr ? e.bias[c] : T{0}; });
}
template <class T> void finish(const Images<T>& x, const Epilogue<T>& e) {
  for (int64_t n = 0; n < x.batch; ++n)
    for (int64_t c = 0; c < x.channels; ++c)
      for_each_pixel(x, [&](const Extents& p) {
        T& v = at(x, n, c, p);
        if (e.activation == Activation::relu && v < 0) v = 0;
      });
}

}  // namespace

template <class T>
void convolve(const Window& window, const Images<const T>& input, const Images<const T>& weight,
              const Epilogue<T>& epilogue, const Images<T>& output, int) {
  fill(output, epilogue);
  walk(window, input, weight, output, [](T& y, const T& w, const T& x) { y += w * x; });
  finish(output, epilogue);
}
template <class T>
void convolve_transposed(const Window& window, const Images<const T>& input, const Images<const T>& weight,
                         const Epilogue<T>& epilogue, const Images<T>& output, int) {
  fill(output, epilogue);
  walk(window, output, weight, input, [](const T& y, const T& w, T& x) { x += w * y; });
  finish(output, epilogue);
}

#define PYINIT_INSTANTIATE(T)                                                                                  \
  template void convolve<T>(const Window&, const Images<const T>&, const Images<const T>&, const Epilogue<T>&, \
                            const Images<T>&, int);                                                            \
  template void convolve_transposed<T>(const Window&, const Images<const T>&, const Images<const T>&,          \
                                       const Epilogue<T>&, const Images<T>&, int);
PYINIT_INSTANTIATE(float)
PYINIT_INSTANTIATE(double)

}  // namespace pyinit
