// Gradients by weights of 3 x 3 taps by Winograd's minimal filtering F(3x3, 2x2), which is that of the forward
// direction transposed: 16 multiplications for each tile of 2 x 2 pixels of the output's gradient instead of 36.
#pragma once

#include "conv/convolution.hpp"

namespace pyinit {

// Whether one is computed like that: by sizes alone.
bool goes_by_winograd(const Window& window, const Images<float>& weight, const Images<const float>& output);

// As convolve_weight_gradient, for one for which this is true.
void weight_gradient_by_winograd(const Window& window, const Images<const float>& input,
                                 const Images<const float>& output, const Images<float>& weight, int threads);

}  // namespace pyinit
