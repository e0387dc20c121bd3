#include <stdexcept>
#include <string>

#include "activation/activate.hpp"
#include "activation/kernels.hpp"
#include "python/bind.hpp"
#include "python/fastcall.hpp"
#include "python/released.hpp"
#include "python/target.hpp"

using namespace pyinit;

namespace {

void check_activation(int code) {
  if (code < 0 || code >= kActivations) throw std::invalid_argument("activation: unknown code");
}

// Python has compared sizes and types; what would lead astray here is looked at once more.
View view_of(const char* name, const Target& t, const Target& like) {
  const bool is_float = t.dtype == static_cast<int>(DType::f32) || t.dtype == static_cast<int>(DType::f64);
  bool fits =
      is_float && t.dtype == like.dtype && t.shape.size() == like.shape.size() && t.strides.size() == t.shape.size();
  for (size_t i = 0; fits && i < t.shape.size(); ++i) fits = t.shape[i] == like.shape[i];
  if (!fits) throw std::invalid_argument(std::string(name) + ": takes float32 or float64, of one type and shape");
  View view{reinterpret_cast<char*>(t.address), static_cast<DType>(t.dtype), {}, 0};
  for (size_t i = 0; i < t.shape.size(); ++i) view.dims.push_back({t.shape[i], t.strides[i], 0});
  return view;
}

void activate_tensor(const Target& input, const Target& output, int activation, double parameter, int threads) {
  check_activation(activation);
  const View x = view_of("input", input, input), out = view_of("output", output, input);
  const auto release = release_if(x.count() > kManyElements);
  activate(static_cast<Activation>(activation), parameter, x, out, threads);
}

void backward(const Target& grad, const Target& saved, const Target& output, int activation, double parameter,
              int from_output, int threads) {
  check_activation(activation);
  const View g = view_of("grad", grad, grad), s = view_of("saved", saved, grad), out = view_of("output", output, grad);
  const auto release = release_if(g.count() > kManyElements);
  activate_backward(static_cast<Activation>(activation), parameter, from_output != 0, g, s, out, threads);
}

template <class Run> void on_type(const Target& t, const Run& run) {
  if (t.dtype == static_cast<int>(DType::f32)) {
    run(float{});
  } else {
    run(double{});
  }
}

// What convolutions end with, for tests: one bias for all elements, or one for each.
void activate_biased(const Target& input, const Target& bias, const Target& output, int activation, double parameter) {
  check_activation(activation);
  const View x = view_of("input", input, input), out = view_of("output", output, input);
  const bool is_row = bias.shape.size() == 1 && bias.shape[0] == x.count();
  if (!is_dense(x) || bias.dtype != input.dtype || !(is_row || bias.shape.empty())) {
    throw std::invalid_argument("bias: takes one number, or one for each of input's elements");
  }
  on_type(input, [&](auto zero) {
    using T = decltype(zero);
    const ActivationKernels<T>& kernels = activation_kernels<T>();
    const auto* const from = reinterpret_cast<const T*>(x.data);
    const auto* const b = reinterpret_cast<const T*>(bias.address);
    auto* const to = reinterpret_cast<T*>(out.data);
    const T p = static_cast<T>(parameter);
    if (is_row) {
      kernels.biased_row[activation](x.count(), from, b, to, p);
    } else {
      kernels.biased[activation](x.count(), from, *b, to, p);
    }
  });
}

SoftmaxShape shape_along(const Target& t, int dim) {
  if (dim < 0 || static_cast<size_t>(dim) >= t.shape.size()) throw std::invalid_argument("dim: is not one of input's");
  SoftmaxShape shape{1, t.shape[static_cast<size_t>(dim)], 1};
  for (size_t i = 0; i < t.shape.size(); ++i) {
    if (i < static_cast<size_t>(dim)) shape.outer *= t.shape[i];
    if (i > static_cast<size_t>(dim)) shape.inner *= t.shape[i];
  }
  return shape;
}

void softmax_tensor(const Target& input, const Target& output, int dim, int is_log, int threads) {
  const View x = view_of("input", input, input), out = view_of("output", output, input);
  const SoftmaxShape shape = shape_along(input, dim);
  const auto release = release_if(x.count() > kManyElements);
  prefer_huge_pages(out);
  on_type(input, [&](auto zero) {
    using T = decltype(zero);
    softmax(is_log != 0, shape, reinterpret_cast<const T*>(x.data), reinterpret_cast<T*>(out.data), threads);
  });
}

void softmax_tensor_backward(const Target& grad, const Target& y, const Target& output, int dim, int is_log,
                             int threads) {
  const View g = view_of("grad", grad, grad), saved = view_of("y", y, grad), out = view_of("output", output, grad);
  const SoftmaxShape shape = shape_along(grad, dim);
  const auto release = release_if(g.count() > kManyElements);
  prefer_huge_pages(out);
  on_type(grad, [&](auto zero) {
    using T = decltype(zero);
    softmax_backward(is_log != 0, shape, reinterpret_cast<const T*>(g.data), reinterpret_cast<const T*>(saved.data),
                     reinterpret_cast<T*>(out.data), threads);
  });
}

}  // namespace

void register_activation(py::module_& m) {
  fastcall::define<activate_tensor>(m, "activate");
  fastcall::define<backward>(m, "activate_backward");
  fastcall::define<activate_biased>(m, "activate_biased");
  fastcall::define<softmax_tensor>(m, "softmax");
  fastcall::define<softmax_tensor_backward>(m, "softmax_backward");
}
