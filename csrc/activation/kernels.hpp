// The vector kernels of activation functions, on elements side by side, and of softmax. All but softmax's may write
// their results over an argument. Every element is worked out alike, wherever it stands.
#pragma once

#include <cstdint>
#include <type_traits>

#include "activation/activation.hpp"
#include "core/isa.hpp"

namespace pyinit {

constexpr int64_t kSoftmaxColumns = 128;  // the most of one call

template <class T> struct SoftmaxKernels {
  // The softmax of each of `rows` rows of `count` elements side by side.
  void (*rows)(int64_t rows, int64_t count, const T* x, T* out);
  void (*rows_backward)(int64_t rows, int64_t count, const T* grad, const T* y, T* out);
  // The softmax of each of `columns` columns of `count` elements at a distance of `stride`.
  void (*columns)(int64_t count, int64_t columns, int64_t stride, const T* x, T* out);
  void (*columns_backward)(int64_t count, int64_t columns, int64_t stride, const T* grad, const T* y, T* out);
};

template <class T> struct ElementKernels {
  // out[i] = f(x[i]); Activation::none copies.
  void (*forward[kActivations])(int64_t count, const T* x, T* out, T parameter);
  // out[i] = grad[i] f'(x[i]), from x and from y = f(x). Null where there is no such kernel: sigmoid and
  // tanh take y; gelu, silu and softplus take x; all others take either (leaky_relu and elu take y where the parameter
  // is not negative).
  void (*backward_from_input[kActivations])(int64_t count, const T* grad, const T* x, T* out, T parameter);
  void (*backward_from_output[kActivations])(int64_t count, const T* grad, const T* y, T* out, T parameter);
};

template <class T> struct ActivationKernels : ElementKernels<T> {
  // The same with stores past the caches, for outputs too long to stay there.
  ElementKernels<T> past_caches;

  // out[i] = f(x[i] + bias), and f(x[i] + bias[i]).
  void (*biased[kActivations])(int64_t count, const T* x, T bias, T* out, T parameter);
  void (*biased_row[kActivations])(int64_t count, const T* x, const T* bias, T* out, T parameter);

  SoftmaxKernels<T> softmax, log_softmax;
};

struct ActivationTable {
  ActivationKernels<float> f32;
  ActivationKernels<double> f64;
};

PYINIT_KERNEL_TABLE(ActivationTable, activation_table)

template <class T> const ActivationKernels<T>& activation_kernels() {
  if constexpr (std::is_same_v<T, float>) {
    return activation_table().f32;
  } else {
    return activation_table().f64;
  }
}

}  // namespace pyinit
