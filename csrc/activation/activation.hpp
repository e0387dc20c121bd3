// The activation functions.
#pragma once

namespace pyinit {

// Codes that Python passes, too. `parameter` is the slope of leaky_relu, alpha of elu, and nothing to others.
enum class Activation : int { none, relu, leaky_relu, elu, selu, gelu, gelu_tanh, silu, sigmoid, tanh, softplus };
constexpr int kActivations = 11;

}  // namespace pyinit
