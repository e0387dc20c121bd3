// Activation functions and softmax of whole tensors.
#pragma once

#include <cstdint>

#include "activation/activation.hpp"
#include "core/view.hpp"

namespace pyinit {

// Views of one float type, f32 or f64, and one shape, with any strides; an output's elements lie at different places.

// out = f(x). The output may be the input.
void activate(Activation activation, double parameter, const View& x, const View& out, int threads);

// out = grad f'(x), `saved` being x, or f(x) where `from_output`. Throws where the kernels have no such derivative.
void activate_backward(Activation activation, double parameter, bool from_output, const View& grad, const View& saved,
                       const View& out, int threads);

// Softmax, or its logarithm, along the middle one of three dimensions of dense row-major memory.
struct SoftmaxShape {
  int64_t outer, count, inner;
};
template <class T> void softmax(bool is_log, const SoftmaxShape& shape, const T* x, T* out, int threads);
template <class T>
void softmax_backward(bool is_log, const SoftmaxShape& shape, const T* grad, const T* y, T* out, int threads);

}  // namespace pyinit
